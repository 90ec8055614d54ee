import { mkdir, open, readdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';

/** Every file operation of the key directory; the kill test ends the process at each of them. */
export type KeyFileSystem = {
  readonly mkdir: typeof mkdir;
  readonly open: typeof open;
  readonly readdir: typeof readdir;
  readonly rename: typeof rename;
  readonly rm: typeof rm;
};

export const nodeFileSystem: KeyFileSystem = { mkdir, open, readdir, rename, rm };

/** Creates a file with these bits whatever the umask, and returns when it is on disk. */
export async function writeSynced(
  fs: KeyFileSystem,
  path: string,
  data: Uint8Array,
  mode: number,
): Promise<void> {
  const file = await fs.open(path, 'wx', mode);
  try {
    await file.chmod(mode);
    await file.writeFile(data);
    await file.sync();
  } finally {
    await file.close();
  }
}

/** Writes those of `list` that `files` has, in the order of the list. */
export async function writeFiles<Name extends string>(
  fs: KeyFileSystem,
  directory: string,
  list: readonly { readonly name: Name; readonly mode: number }[],
  files: ReadonlyMap<Name, Uint8Array>,
): Promise<void> {
  for (const { name, mode } of list) {
    const data = files.get(name);
    if (data !== undefined) await writeSynced(fs, join(directory, name), data, mode);
  }
}

/** Makes renames and new names in a directory durable. */
export async function syncDirectory(fs: KeyFileSystem, path: string): Promise<void> {
  const directory = await fs.open(path, 'r');
  try {
    await directory.sync();
  } finally {
    await directory.close();
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
