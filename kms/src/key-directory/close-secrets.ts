import { chmod, lstat } from 'node:fs/promises';
import { join } from 'node:path';
import { KEY_FILES } from './key-files.ts';

/**
 * Takes secret keys away from the machine's other users: v0.6 wrote them with whatever the umask said.
 * @param onOpen told of each file that others could read; `closed` is false when that could not be changed
 */
export async function closeSecrets(
  directory: string,
  onOpen: (name: string, closed: boolean) => void,
): Promise<void> {
  for (const { name, mode } of KEY_FILES) {
    if (mode !== 0o600) continue;
    const path = join(directory, name);
    const found = await lstat(path).catch(() => undefined);
    if (found?.isFile() !== true || (found.mode & 0o077) === 0) continue;
    const closed = await chmod(path, mode).then(
      () => true,
      () => false,
    );
    onOpen(name, closed);
  }
}
