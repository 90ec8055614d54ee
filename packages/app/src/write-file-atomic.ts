import { open, rename, unlink } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { removeAbandoned, syncDirectory, temporaryName, writeSynced } from '@dstack-cloud/files';
import { AppError } from './errors.ts';

/** The file system calls that the writer makes; tests replace them to fail at each step. */
export interface AtomicFileSystem {
  readonly open: typeof open;
  readonly rename: typeof rename;
  readonly unlink: typeof unlink;
}

/** Options of {@link writeFileAtomic}. */
export interface WriteFileOptions {
  /** Permission bits of the new file, whatever the umask; default 0600. */
  readonly mode?: number;
  readonly fs?: AtomicFileSystem;
}

/**
 * Replaces a file so that every reader, also after a crash at any moment, sees the whole old or the whole new content:
 * write a temporary file beside it, fsync, rename, fsync the directory.
 *
 * @throws AppError `file-write-failed`; the old file is then untouched and the temporary one removed
 */
export async function writeFileAtomic(
  path: string,
  data: Uint8Array | string,
  options: WriteFileOptions = {},
): Promise<void> {
  const fs = options.fs ?? { open, rename, unlink };
  const mode = options.mode ?? 0o600;
  const directory = dirname(path);
  const temporary = join(directory, temporaryName(basename(path)));
  sweep(directory);
  try {
    try {
      await writeSynced(temporary, data, mode, fs);
      await fs.rename(temporary, path);
    } catch (cause) {
      await fs.unlink(temporary).catch(() => undefined);
      throw cause;
    }
    await syncDirectory(directory, fs);
  } catch (cause) {
    throw new AppError('file-write-failed', `File ${path} cannot be written: ${(cause as Error).message}`, {
      cause,
    });
  }
}

/** When this process last looked for what killed writers left, by directory. */
const swept = new Map<string, number>();
const SWEEP_EVERY_MS = 60_000;
const MAX_SWEPT = 1024;

function sweep(directory: string): void {
  const path = resolve(directory);
  const now = performance.now();
  if (now - (swept.get(path) ?? Number.NEGATIVE_INFINITY) < SWEEP_EVERY_MS) return;
  if (swept.size >= MAX_SWEPT) swept.clear();
  swept.set(path, now);
  removeAbandoned(path);
}
