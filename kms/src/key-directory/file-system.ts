import { mkdir, open, readdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { writeSynced } from '@dstack-cloud/files';

/** Every file operation of the key directory; the kill test ends the process at each of them. */
export type KeyFileSystem = {
  readonly mkdir: typeof mkdir;
  readonly open: typeof open;
  readonly readdir: typeof readdir;
  readonly rename: typeof rename;
  readonly rm: typeof rm;
};

export const nodeFileSystem: KeyFileSystem = { mkdir, open, readdir, rename, rm };

/** Writes those of `list` that `files` has, in the order of the list. */
export async function writeFiles<Name extends string>(
  fs: KeyFileSystem,
  directory: string,
  list: readonly { readonly name: Name; readonly mode: number }[],
  files: ReadonlyMap<Name, Uint8Array>,
): Promise<void> {
  for (const { name, mode } of list) {
    const data = files.get(name);
    if (data !== undefined) await writeSynced(join(directory, name), data, mode, fs);
  }
}

/** Names in a directory; none when it does not exist. */
export async function namesIn(fs: KeyFileSystem, path: string): Promise<Set<string>> {
  try {
    return new Set(await fs.readdir(path));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return new Set();
    throw error;
  }
}
