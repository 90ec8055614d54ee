import { chown, lstat, realpath, stat } from 'node:fs/promises';
import { writeFileAtomic } from '@dstack-cloud/app';

/**
 * Replaces a file of the user's at once or not at all. What the user made of it stays: a link still leads to it, and
 * it keeps its mode and its owner. `mode` is for a file that does not exist yet.
 */
export async function replaceFile(path: string, text: string, mode: number): Promise<void> {
  const before = await lstat(path).then(() => stat(path), absent);
  if (before === undefined) return await writeFileAtomic(path, text, { mode });
  const target = await realpath(path);
  await writeFileAtomic(target, text, { mode: before.mode & 0o7777 });
  const after = await stat(target);
  // Only root can have changed the owner, and only root can give it back.
  if (after.uid !== before.uid || after.gid !== before.gid) await chown(target, before.uid, before.gid);
}

/** Only "does not exist" means absent; a link that leads nowhere exists. */
function absent(error: NodeJS.ErrnoException): undefined {
  if (error.code !== 'ENOENT') throw error;
}
