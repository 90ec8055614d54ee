import { spawn } from 'node:child_process';
import { mkdir } from 'node:fs/promises';
import { basename } from 'node:path';
import { OsImageError } from '../errors.ts';
import type { FileTree } from './file-tree.ts';
import { readTar } from './read-tar.ts';

export interface AddPackagesOptions {
  /** Folder for the contents of large files; must outlive the tree. */
  readonly blobs: string;
  /** Which paths are taken. */
  readonly wanted: (path: string) => boolean;
}

/**
 * Unpacks Debian packages into a tree, in the order given, without their maintainer scripts. Only `dpkg-deb` of the
 * building machine is used, to undo the archive's compression.
 */
export async function addPackages(
  packages: readonly PackageFile[],
  tree: FileTree,
  { blobs, wanted }: AddPackagesOptions,
): Promise<void> {
  await mkdir(blobs, { recursive: true });
  let blob = 0;
  for (const { name, file } of packages) {
    const options = { blobs, wanted, nextBlob: () => `${blob++}`, owner: name };
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

/** The `.deb` file of a package. */
export interface PackageFile {
  readonly name: string;
  readonly file: string;
}
