import { join } from 'node:path';
import { KmsError } from '../errors.ts';
import { type KeyFileSystem, namesIn, nodeFileSystem, syncDirectory, writeSynced } from './file-system.ts';
import {
  COMPLETE_MARKER,
  KEY_FILES,
  type KeyFileName,
  PENDING_DIRECTORY,
  ROOT_KEY_FILES,
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
    await stage(directory, pending, files, fs);
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
  fs: KeyFileSystem,
): Promise<void> {
  await fs.rm(pending, { recursive: true, force: true });
  await fs.mkdir(pending, { mode: 0o700 });
  for (const { name, mode } of KEY_FILES) {
    const data = files.get(name);
    if (data !== undefined) await writeSynced(fs, join(pending, name), data, mode);
  }
  await syncDirectory(fs, pending);
  await syncDirectory(fs, directory);
  await writeSynced(fs, join(pending, COMPLETE_MARKER), new Uint8Array(), 0o600);
  await syncDirectory(fs, pending);
}

/**
 * Finishes a commit that was interrupted after it was complete, removes one that was not. Call it before the
 * directory is looked at.
 */
export async function recoverKeyDirectory(
  directory: string,
  fs: KeyFileSystem = nodeFileSystem,
): Promise<'nothing' | 'finished' | 'removed'> {
  const pending = join(directory, PENDING_DIRECTORY);
  const staged = await namesIn(fs, pending);
  if (staged.has(COMPLETE_MARKER)) {
    await finishPending(directory, fs);
    return 'finished';
  }
  if (!(await namesIn(fs, directory)).has(PENDING_DIRECTORY)) return 'nothing';
  await fs.rm(pending, { recursive: true, force: true });
  await syncDirectory(fs, directory);
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
  await syncDirectory(fs, directory);
  await fs.rm(join(pending, COMPLETE_MARKER));
  await fs.rm(pending, { recursive: true, force: true });
  await syncDirectory(fs, directory);
}
