import { join } from 'node:path';
import { syncDirectory, writeSynced } from '@dstack-cloud/files';
import { KmsError } from '../errors.ts';
import { keyDirectoryState } from './commit.ts';
import { type KeyFileSystem, namesIn, nodeFileSystem, writeFiles } from './file-system.ts';
import { finishRotation, rotationPaths } from './finish-rotation.ts';
import {
  COMPLETE_MARKER,
  HISTORY_DIRECTORY,
  KEY_FILES,
  type KeyFileName,
  RETIRED_FILES,
  type RetiredFileName,
} from './key-files.ts';

/** A change of root: what becomes history, and what takes its place. */
export type Rotation = {
  /** Id of the root that retires. */
  readonly id: string;
  readonly retired: ReadonlyMap<RetiredFileName, Uint8Array>;
  /** Files of the new root, and what is issued under it; the others stay. */
  readonly active: ReadonlyMap<KeyFileName, Uint8Array>;
};

/**
 * Changes the root of a key directory as one step, for our programs and after a crash at any moment: both roots are
 * staged, marked complete, and only then moved (decision 011). The caller holds the lock and has recovered.
 * @throws KmsError `keys-exist` when this root is in the history already, `keys-unwritable`; nothing has changed then
 */
export async function commitRotation(
  directory: string,
  rotation: Rotation,
  fs: KeyFileSystem = nodeFileSystem,
): Promise<void> {
  if ((await keyDirectoryState(directory, fs)) !== 'keys') {
    throw new KmsError('keys-missing', `Key directory ${directory} has no root to rotate`);
  }
  if ((await namesIn(fs, join(directory, HISTORY_DIRECTORY))).has(rotation.id)) {
    throw new KmsError('keys-exist', `Root ${rotation.id} is in the history of ${directory} already`);
  }
  const { staged } = rotationPaths(directory);
  try {
    await stage(directory, rotation, fs);
  } catch (cause) {
    await fs.rm(staged, { recursive: true, force: true }).catch(() => undefined);
    throw new KmsError(
      'keys-unwritable',
      `The new root cannot be written to ${directory}, and the old one stays: ${(cause as Error).message}. Make room, or mend the disk, and try again`,
      { cause },
    );
  }
  await finishRotation(directory, fs);
}

async function stage(directory: string, { id, retired, active }: Rotation, fs: KeyFileSystem): Promise<void> {
  const paths = rotationPaths(directory);
  const retiredPath = join(paths.retired, id);
  for (const path of [paths.staged, paths.retired, retiredPath, paths.active]) {
    await fs.mkdir(path, { mode: 0o700 });
  }
  await writeFiles(fs, retiredPath, RETIRED_FILES, retired);
  await writeFiles(fs, paths.active, KEY_FILES, active);
  for (const path of [retiredPath, paths.retired, paths.active, paths.staged, directory]) {
    await syncDirectory(path, fs);
  }
  await writeSynced(join(paths.staged, COMPLETE_MARKER), new Uint8Array(), 0o600, fs);
  await syncDirectory(paths.staged, fs);
}
