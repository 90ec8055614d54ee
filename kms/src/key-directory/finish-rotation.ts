import { join } from 'node:path';
import { syncDirectory } from '@dstack-cloud/files';
import { type KeyFileSystem, namesIn } from './file-system.ts';
import { COMPLETE_MARKER, HISTORY_DIRECTORY, KEY_FILES, ROTATION_DIRECTORY } from './key-files.ts';

/** Where the parts of a rotation are staged. */
export function rotationPaths(directory: string): { staged: string; retired: string; active: string } {
  const staged = join(directory, ROTATION_DIRECTORY);
  return { staged, retired: join(staged, 'retired'), active: join(staged, 'active') };
}

/**
 * Carries out a staged, complete rotation: the old root goes to the history, then the new one takes its place. Each
 * step may have been done before. Between the steps the directory never holds keys of both roots that would load:
 * the old k256 key leaves before the first new key comes, so that every other program finds a damaged directory.
 */
export async function finishRotation(directory: string, fs: KeyFileSystem): Promise<void> {
  const { staged, retired, active } = rotationPaths(directory);
  const history = join(directory, HISTORY_DIRECTORY);
  for (const id of await namesIn(fs, retired)) {
    await fs.mkdir(history, { recursive: true, mode: 0o700 });
    await fs.rename(join(retired, id), join(history, id));
    await syncDirectory(history, fs);
    await syncDirectory(directory, fs);
  }
  const left = await namesIn(fs, active);
  if (left.has('root-ca.key')) {
    await fs.rm(join(directory, 'root-k256.key'), { force: true });
    await syncDirectory(directory, fs);
  }
  for (const { name } of KEY_FILES) {
    if (left.has(name)) await fs.rename(join(active, name), join(directory, name));
  }
  await syncDirectory(directory, fs);
  // While the marker is there, what is left is finished again; without it, removed.
  await fs.rm(join(staged, COMPLETE_MARKER));
  await fs.rm(staged, { recursive: true, force: true });
  await syncDirectory(directory, fs);
}
