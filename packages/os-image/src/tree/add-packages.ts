import { spawn } from 'node:child_process';
import { mkdir } from 'node:fs/promises';
import { basename } from 'node:path';
import { OsImageError } from '../errors.ts';
import { isDropped } from '../recipe/recipe.ts';
import type { FileTree } from './file-tree.ts';
import { readTar } from './read-tar.ts';

/**
 * Unpacks Debian packages into a tree, in the order given, without their maintainer scripts. Only `dpkg-deb` of the
 * building machine is used, to undo the archive's compression.
 *
 * @param blobs folder for the contents of large files; must outlive the tree
 */
export async function addPackages(files: readonly string[], tree: FileTree, blobs: string): Promise<void> {
  await mkdir(blobs, { recursive: true });
  let blob = 0;
  const options = { blobs, wanted: (path: string) => !isDropped(path), nextBlob: () => `${blob++}` };
  for (const file of files) {
    const child = spawn('dpkg-deb', ['--fsys-tarfile', file], { stdio: ['ignore', 'pipe', 'pipe'] });
    let said = '';
    child.stderr.on('data', (chunk: Buffer) => {
      if (said.length < 4096) said += chunk.toString();
    });
    const ended = new Promise<number | null>((resolve, reject) => {
      child.once('error', reject);
      child.once('close', resolve);
    });
    const read = readTar(child.stdout, tree, options);
    const [code] = await Promise.all([ended, read]).catch((cause: NodeJS.ErrnoException) => {
      child.kill('SIGKILL');
      if (cause.code === 'ENOENT')
        throw new OsImageError(
          'tool-missing',
          'dpkg-deb is not installed; images are built on Debian and its relatives',
        );
      throw cause;
    });
    if (code !== 0)
      throw new OsImageError('build-failed', `dpkg-deb could not unpack ${basename(file)}: ${said.trim()}`);
  }
}
