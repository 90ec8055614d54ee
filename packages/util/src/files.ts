import { readFile } from 'node:fs/promises';
import { AppError, readFileBounded } from '@dstack-cloud/app';
import { UtilError } from './errors.ts';

/** Descriptions of strerror(3) for what happens with files; clients match them. */
const REASONS: Readonly<Record<string, string>> = {
  ENOENT: 'No such file or directory (os error 2)',
  EACCES: 'Permission denied (os error 13)',
  ENOTDIR: 'Not a directory (os error 20)',
  EISDIR: 'Is a directory (os error 21)',
};

const MAX_FILE_BYTES = 64 * 1024 * 1024;

/** Reads a file that the user named. @throws UtilError with `message` */
export async function readNamedFile(
  path: string,
  message: string,
  max: number = MAX_FILE_BYTES,
): Promise<Uint8Array> {
  try {
    return await readFileBounded(path, max);
  } catch (error) {
    throw new UtilError(message, notOpened(path, error));
  }
}

/** `failed to open file …`, with the reason of the system. */
export function notOpened(path: string, error: unknown): UtilError {
  const reason = REASONS[systemCode(error) ?? ''];
  return new UtilError(
    reason === undefined ? (error as Error).message : `failed to open file \`${path}\`: ${reason}`,
  );
}

/** The system's code, also of an error of `readFileBounded`, which names a missing file without its cause. */
function systemCode(error: unknown): string | undefined {
  if (!(error instanceof AppError)) return (error as NodeJS.ErrnoException).code;
  return error.code === 'file-missing' ? 'ENOENT' : (error.cause as NodeJS.ErrnoException | undefined)?.code;
}

/** All of standard input. @throws UtilError beyond `max` bytes */
export async function readStandardInput(max: number): Promise<Uint8Array> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of process.stdin as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > max) throw new UtilError(`standard input has more than ${max} bytes`);
    chunks.push(chunk);
  }
  return new Uint8Array(Buffer.concat(chunks));
}

/** A file of the kernel or of the boot, whose size fstat(2) does not tell. */
export async function readSystemFile(path: string): Promise<Uint8Array> {
  try {
    return new Uint8Array(await readFile(path));
  } catch (error) {
    throw notOpened(path, error);
  }
}
