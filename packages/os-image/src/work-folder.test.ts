import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { temporaryName } from '@dstack-cloud/files';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { buildImage } from './build/build-image.ts';
import { buildContainers } from './containers/build-containers.ts';
import { type ImageLock, parseLock } from './lock/image-lock.ts';
import { PackageStore } from './packages/package-store.ts';
import { makeWorkFolder } from './work-folder.ts';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'work-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const lock: ImageLock = parseLock(
  JSON.stringify({
    ...{ schema: 1, suite: 'trixie', kernel: '1.2.3' },
    node: { name: 'node-x', version: '1.0.0', integrity: `sha512-${'A'.repeat(86)}==` },
    image: [{ name: 'one', version: '1.0', size: 1, sha256: '11'.repeat(32) }],
    tools: [{ name: 'two', version: '2.0', size: 1, sha256: '22'.repeat(32) }],
  }),
);

/** What a process that was killed left of its work. */
function leave(parent: string, name: string): string {
  const { pid } = spawnSync('true');
  const left = join(parent, temporaryName(name).replace(`.${process.pid}-`, `.${pid}-`));
  mkdirSync(left, { recursive: true });
  writeFileSync(join(left, 'rootfs.squashfs'), 'much');
  return left;
}

it('a build that runs is left alone, one that was killed is removed', async () => {
  const left = leave(folder, 'image');
  const living = await makeWorkFolder(folder, 'image');
  await makeWorkFolder(folder, 'image');
  expect([existsSync(left), existsSync(living), readdirSync(folder).length]).toEqual([false, true, 2]);
});

const given = (): { cache: string; given: string } => ({ cache: join(folder, 'cache'), given: folder });
const options = () => ({ lock, recipe: folder, programs: folder, version: '1', store: given() });

it.each<[string, string, () => Promise<unknown>]>([
  ['image', 'out', () => buildImage({ ...options(), flavour: 'dev', output: join(folder, 'out/image') })],
  ['containers', 'out', () => buildContainers({ ...options(), names: ['kms'], output: join(folder, 'out') })],
  ['fetch', 'cache', () => new PackageStore(lock, given()).nodeTarball()],
])(
  'the next one removes what a killed one left of %s in %s, and leaves nothing itself',
  async (name, where, run) => {
    const parent = join(folder, where);
    const left = leave(parent, name);
    await expect(run()).rejects.toThrow();
    expect(existsSync(left)).toBe(false);
    expect(readdirSync(parent).filter((one) => one.startsWith('.'))).toEqual([]);
  },
);
