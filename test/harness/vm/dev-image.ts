/** The development image of this checkout, built once for all tests that boot it. */
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { build } from '@dstack-cloud/scripts/build';
import { repository, runCommand } from '../run-command.ts';

const BUILD_MS = 300_000;
const NAME = 'test';

/**
 * Folder of the image, or why there is none: a mirror has only the newest versions of packages, and when one that the lock
 * names is gone, nothing can be built here.
 */
export async function devImage(): Promise<{ folder: string } | { missing: string }> {
  await build();
  const images = join(repository, 'dist/test-images');
  const parent = join(images, sourcesHash());
  const folder = join(parent, NAME);
  if (existsSync(folder)) return { folder };
  // Images of other sources are of no use any more.
  rmSync(images, { recursive: true, force: true });
  const cloud = join(repository, 'dist/bin/dstack-cloud.js');
  const command = [
    process.execPath,
    cloud,
    'image',
    'build',
    '--dev',
    '--name',
    NAME,
    '--output',
    parent,
    '--json',
  ];
  const { code, stdout, stderr } = await runCommand(command, { timeoutMs: BUILD_MS });
  if (existsSync(folder)) return { folder };
  if (stdout.includes('"package-missing"')) return { missing: `the lock is old: ${stderr.trim()}` };
  throw new Error(`The image was not built (status ${code}): ${stderr}`);
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
