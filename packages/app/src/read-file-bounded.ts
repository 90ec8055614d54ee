import { constants, type FileHandle, open } from 'node:fs/promises';
import { AppError } from './errors.ts';

/** How {@link readFileBounded} treats a file. */
export interface ReadFileOptions {
  /** Refuse a symbolic link as the last part of the path; default false. */
  readonly noFollow?: boolean;
  /** What error texts call the file; default `File`. */
  readonly label?: string;
}

/**
 * Reads a regular file of at most `max` bytes through one descriptor, so that the size that was checked is the size
 * that is read, also while someone else writes to the file.
 *
 * @throws AppError `file-missing`, `file-too-large`, `file-not-regular` or `file-read-failed`
 */
export async function readFileBounded(
  path: string,
  max: number,
  options: ReadFileOptions = {},
): Promise<Uint8Array> {
  const label = options.label ?? 'File';
  // O_NONBLOCK: opening a FIFO must fail below, not hang here.
  const flags = constants.O_RDONLY | constants.O_NONBLOCK | (options.noFollow ? constants.O_NOFOLLOW : 0);
  const file = await open(path, flags).catch((cause: NodeJS.ErrnoException) => {
    // Without the cause, which says the same once more.
    if (cause.code === 'ENOENT') throw new AppError('file-missing', `${label} ${path} does not exist`);
    if (cause.code === 'ELOOP') throw notRegular(label, path);
    throw new AppError('file-read-failed', `${label} ${path} cannot be opened: ${cause.message}`, { cause });
  });
  try {
    return await readOpened(file, path, max, label);
  } finally {
    await file.close();
  }
}

async function readOpened(file: FileHandle, path: string, max: number, label: string): Promise<Uint8Array> {
  const status = await file.stat();
  if (!status.isFile()) throw notRegular(label, path);
  if (status.size > max) throw tooLarge(label, path, max);
  const bytes = new Uint8Array(status.size + 1);
  let length = 0;
  while (length < bytes.length) {
    const { bytesRead } = await file
      .read(bytes, length, bytes.length - length, null)
      .catch((cause: Error) => {
        throw new AppError('file-read-failed', `${label} ${path} cannot be read: ${cause.message}`, {
          cause,
        });
      });
    if (bytesRead === 0) break;
    length += bytesRead;
  }
  // One byte more than fstat said means that the file grew under the reader.
  if (length > status.size) {
    if (length > max) throw tooLarge(label, path, max);
    throw new AppError('file-read-failed', `${label} ${path} changed while it was read`);
  }
  return bytes.slice(0, length);
}

function tooLarge(label: string, path: string, max: number): AppError {
  return new AppError('file-too-large', `${label} ${path} is too large, max size is ${max} bytes`, {
    expected: `at most ${max} bytes`,
  });
}

function notRegular(label: string, path: string): AppError {
  return new AppError('file-not-regular', `${label} ${path} is not a regular file`);
}
