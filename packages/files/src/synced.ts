import { open } from 'node:fs/promises';

/** What these functions call; a test ends the process at each of the calls. */
type Opener = { readonly open: typeof open };

/** Creates a file with these permission bits, whatever the umask, and returns when its content is on the disk. */
export async function writeSynced(
  path: string,
  data: Uint8Array | string,
  mode: number,
  fs: Opener = { open },
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

/** Returns when the renames and the new names in a directory are on the disk. */
export async function syncDirectory(path: string, fs: Opener = { open }): Promise<void> {
  const directory = await fs.open(path, 'r');
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}
