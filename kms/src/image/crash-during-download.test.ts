/** The process is killed, or the disk full, at every file operation of a download: nothing then counts as an image. */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { toHex } from '@dstack-cloud/encoding';
import { simulatedImageFiles } from '@dstack-cloud/tee-simulator';
import { tarOf } from '@dstack-cloud/test/tar-of';
import { build } from 'esbuild';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { checkImageDirectory } from './image-directory.ts';

const root = mkdtempSync(join(tmpdir(), 'kms-image-crash-'));
const child = join(root, 'child.mjs');
const archive = join(root, 'image.tar.gz');
const image = simulatedImageFiles('crash');
const hash = toHex(image.osImageHash);
let directory: string;

beforeAll(async () => {
  await build({
    entryPoints: [fileURLToPath(new URL('../test/image-child.ts', import.meta.url))],
    outfile: child,
    bundle: true,
    platform: 'node',
    format: 'esm',
    conditions: ['@dstack/source'],
    alias: { 'node:fs/promises': fileURLToPath(new URL('../test/counting-fs.ts', import.meta.url)) },
    external: ['koffi'],
    banner: {
      js: "import { createRequire } from 'node:module'; const require = createRequire(import.meta.url);",
    },
    logLevel: 'silent',
  });
  writeFileSync(archive, gzipSync(tarOf([...image.directory].map(([name, data]) => ({ name, data })))));
}, 60_000);
beforeEach(() => {
  directory = mkdtempSync(join(root, 'cache-'));
});
afterAll(() => rmSync(root, { recursive: true, force: true }));

/** @returns what it printed, or undefined when it was killed */
function run(how: 'kill' | 'full', at = 0): string | undefined {
  const result = spawnSync(process.execPath, [child, directory, archive, hash, how, String(at)], {
    timeout: 20_000,
  });
  if (result.signal === 'SIGKILL') return undefined;
  expect(result.stderr.toString()).toBe('');
  return result.stdout.toString();
}

const names = (path: string): string[] => (existsSync(path) ? readdirSync(path) : []);
const imageNames = (): string[] => names(join(directory, 'images')).filter((name) => name !== 'tmp');

test('killed at any file operation: no image or a whole one, and the next start cleans up', async () => {
  const total = Number(/^stored (\d+)$/.exec(run('kill') ?? '')?.[1]);
  expect(total).toBeGreaterThan(30);
  rmSync(directory, { recursive: true });
  for (let at = 1; at <= total; at++) {
    expect(run('kill', at)).toBeUndefined();
    for (const name of imageNames()) await checkImageDirectory(join(directory, 'images', name), hash);
    rmSync(join(directory, 'images', hash), { recursive: true, force: true });
  }
  expect(run('kill')).toMatch(/^stored/);
  expect(imageNames()).toEqual([hash]);
  expect(names(join(directory, 'images', 'tmp'))).toEqual([]);
}, 300_000);

test('a disk that is full at any file operation is said so', () => {
  const outcomes = JSON.parse(run('full') ?? '') as [string, boolean][];
  expect(outcomes.length).toBeGreaterThan(10);
  // Only the last write comes after the image has its name; it is whole then.
  for (const [outcome, there] of outcomes.slice(0, -2)) {
    expect([outcome, there]).toEqual(['Failed to store image: ENOSPC', false]);
  }
  expect(outcomes.at(-2)).toEqual(['Failed to store image: ENOSPC', true]);
  expect(outcomes.at(-1)![0]).toBe('stored');
}, 60_000);
