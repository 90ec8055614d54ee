import { join } from 'node:path';
import { syncDirectory, writeSynced } from '@dstack-cloud/files';
import { KmsError } from '../errors.ts';
import { type KeyFileSystem, namesIn, nodeFileSystem, writeFiles } from './file-system.ts';
import { finishRotation } from './finish-rotation.ts';
import {
  COMPLETE_MARKER,
  HISTORY_DIRECTORY,
  type HistoryFiles,
  KEY_FILES,
  type KeyFileName,
  PENDING_DIRECTORY,
  RETIRED_FILES,
  ROOT_KEY_FILES,
  ROTATION_DIRECTORY,
} from './key-files.ts';

/** What a key directory holds. `damaged`: one root key without the other. */
export type KeyDirectoryState = 'empty' | 'keys' | 'damaged';

/**
 * Brings all files of a new key directory into being as one step, for every reader and after a crash at any
 * moment: they are staged, marked complete, and only then moved to their places, the root keys last.
 * @throws KmsError `keys-exist` when a root key is there already, `keys-unwritable`; nothing is left then
 */
export async function commitKeyFiles(
  directory: string,
  files: ReadonlyMap<KeyFileName, Uint8Array>,
  fs: KeyFileSystem = nodeFileSystem,
  history: HistoryFiles = new Map(),
): Promise<void> {
  const pending = join(directory, PENDING_DIRECTORY);
  await fs.mkdir(directory, { recursive: true, mode: 0o700 });
  if ((await keyDirectoryState(directory, fs)) !== 'empty') {
    throw new KmsError(
      'keys-exist',
      `Key directory ${directory} has root keys already; they are never replaced`,
    );
  }
  try {
    await stage(directory, pending, files, history, fs);
  } catch (cause) {
    await fs.rm(pending, { recursive: true, force: true }).catch(() => undefined);
    throw new KmsError(
      'keys-unwritable',
      `The keys cannot be written to ${directory}, and none were kept: ${(cause as Error).message}. Make room, or mend the disk, and try again`,
      { cause },
    );
  }
  await finishPending(directory, fs);
}

async function stage(
  directory: string,
  pending: string,
  files: ReadonlyMap<KeyFileName, Uint8Array>,
  history: HistoryFiles,
  fs: KeyFileSystem,
): Promise<void> {
  await fs.rm(pending, { recursive: true, force: true });
  await fs.mkdir(pending, { mode: 0o700 });
  await writeFiles(fs, pending, KEY_FILES, files);
  if (history.size > 0) {
    const roots = join(pending, HISTORY_DIRECTORY);
    await fs.mkdir(roots, { mode: 0o700 });
    for (const [id, retired] of history) {
      await fs.mkdir(join(roots, id), { mode: 0o700 });
      await writeFiles(fs, join(roots, id), RETIRED_FILES, retired);
      await syncDirectory(join(roots, id), fs);
    }
    await syncDirectory(roots, fs);
  }
  await syncDirectory(pending, fs);
  await syncDirectory(directory, fs);
  await writeSynced(join(pending, COMPLETE_MARKER), new Uint8Array(), 0o600, fs);
  await syncDirectory(pending, fs);
}

/** What was found unfinished in a key directory, and what became of it. */
export type Recovery = 'nothing' | 'finished' | 'rotated' | 'removed';

/**
 * Finishes a bootstrap or a rotation that was interrupted after it was complete, removes one that was not. Call it
 * before the directory is looked at.
 */
export async function recoverKeyDirectory(
  directory: string,
  fs: KeyFileSystem = nodeFileSystem,
): Promise<Recovery> {
  const names = await namesIn(fs, directory);
  if (names.has(PENDING_DIRECTORY)) {
    return await recover(directory, PENDING_DIRECTORY, finishPending, 'finished', fs);
  }
  if (!names.has(ROTATION_DIRECTORY)) return 'nothing';
  return await recover(directory, ROTATION_DIRECTORY, finishRotation, 'rotated', fs);
}

async function recover(
  directory: string,
  name: string,
  finish: (directory: string, fs: KeyFileSystem) => Promise<void>,
  finished: Recovery,
  fs: KeyFileSystem,
): Promise<Recovery> {
  const staged = join(directory, name);
  if ((await namesIn(fs, staged)).has(COMPLETE_MARKER)) {
    await finish(directory, fs);
    return finished;
  }
  await fs.rm(staged, { recursive: true, force: true });
  await syncDirectory(directory, fs);
  return 'removed';
}

/** What is in a key directory, after recovery. */
export async function keyDirectoryState(
  directory: string,
  fs: KeyFileSystem = nodeFileSystem,
): Promise<KeyDirectoryState> {
  const names = await namesIn(fs, directory);
  const present = ROOT_KEY_FILES.filter((name) => names.has(name)).length;
  if (present === ROOT_KEY_FILES.length) return 'keys';
  return present === 0 ? 'empty' : 'damaged';
}

async function finishPending(directory: string, fs: KeyFileSystem): Promise<void> {
  const pending = join(directory, PENDING_DIRECTORY);
  const staged = await namesIn(fs, pending);
  const placed = await namesIn(fs, directory);
  if (staged.has(HISTORY_DIRECTORY)) await placeHistory(directory, join(pending, HISTORY_DIRECTORY), fs);
  for (const { name } of KEY_FILES) {
    if (!staged.has(name)) continue;
    // Nothing of ours puts a root key beside its staged copy: somebody restored one meanwhile.
    if (ROOT_KEY_FILES.some((root) => root === name) && placed.has(name)) {
      throw new KmsError(
        'keys-exist',
        `${join(directory, name)} exists beside an unfinished bootstrap; remove one`,
      );
    }
    await fs.rename(join(pending, name), join(directory, name));
  }
  await syncDirectory(directory, fs);
  // While the marker is there, what is left is finished again; without it, removed.
  await fs.rm(join(pending, COMPLETE_MARKER));
  await fs.rm(pending, { recursive: true, force: true });
  await syncDirectory(directory, fs);
}

/** Retired roots that are there already, under their names, are the same ones: a name is a hash of the key. */
async function placeHistory(directory: string, staged: string, fs: KeyFileSystem): Promise<void> {
  const history = join(directory, HISTORY_DIRECTORY);
  await fs.mkdir(history, { recursive: true, mode: 0o700 });
  const placed = await namesIn(fs, history);
  for (const id of await namesIn(fs, staged)) {
    if (!placed.has(id)) await fs.rename(join(staged, id), join(history, id));
  }
  await syncDirectory(history, fs);
}
