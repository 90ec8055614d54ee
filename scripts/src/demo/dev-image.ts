import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { repository } from '../build/paths.ts';
import { build } from '../build.ts';

const BUILD_MS = 600_000;
const NAMES = { dev: 'test', prod: 'prod' } as const;

/** Folder of an image, or why there is none. */
type Built = { folder: string } | { missing: string };

/**
 * The development image of this checkout, built once for all who boot it. A mirror has only the newest versions of packages,
 * and when one that the lock names is gone, nothing can be built here.
 */
export async function devImage(): Promise<Built> {
  return await image('dev', ['--dev']);
}

/** The production image, in the same way. */
export async function prodImage(): Promise<Built> {
  return await image('prod', []);
}

async function image(flavour: keyof typeof NAMES, more: readonly string[]): Promise<Built> {
  const { directory } = await build();
  const images = join(repository, 'dist/test-images');
  const hash = sourcesHash();
  const parent = join(images, hash);
  const folder = join(parent, NAMES[flavour]);
  if (existsSync(folder)) return { folder };
  // Images of other sources are of no use any more.
  for (const name of existsSync(images) ? readdirSync(images) : [])
    if (name !== hash) rmSync(join(images, name), { recursive: true, force: true });
  const args = ['image', 'build', ...more, '--name', NAMES[flavour], '--output', parent, '--json'];
  const outcome = await promisify(execFile)(process.execPath, [join(directory, 'dstack-cloud.js'), ...args], {
    timeout: BUILD_MS,
    maxBuffer: 16 * 1024 * 1024,
  }).catch((error: { stdout?: string; stderr?: string }) => error);
  if (existsSync(folder)) return { folder };
  const { stdout = '', stderr = '' } = outcome;
  if (stdout.includes('"package-missing"')) return { missing: `the lock is old: ${stderr.trim()}` };
  throw new Error(`The image was not built: ${stderr}`);
}

/** Everything of this checkout that goes into an image. */
function sourcesHash(): string {
  const hash = createHash('sha256');
  const add = (folder: string): void => {
    for (const entry of readdirSync(join(repository, folder), { withFileTypes: true }).sort(byName)) {
      const path = join(folder, entry.name);
      if (entry.isDirectory()) add(path);
      else if (entry.isFile() && !entry.name.endsWith('.test.ts'))
        hash.update(`${path}\0`).update(readFileSync(join(repository, path)));
    }
  };
  for (const part of ['src', 'files', 'stub']) add(join('packages/os-image', part));
  hash.update(readFileSync(join(repository, 'packages/os-image/lock.json')));
  add('dist/guest');
  return hash.digest('hex').slice(0, 16);
}

function byName(a: { name: string }, b: { name: string }): number {
  return a.name < b.name ? -1 : 1;
}
