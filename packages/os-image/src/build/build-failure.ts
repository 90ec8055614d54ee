import { statfs } from 'node:fs/promises';
import { OsImageError } from '../errors.ts';

const MB = 1_000_000;
/** What a build writes into its folder at most, with what it removes again, bytes. */
const BUILD_BYTES = 1500 * MB;
const FULL: readonly unknown[] = ['ENOSPC', 'EDQUOT'];
/** strerror(3) of these, as the programs that build say it. */
const SAID_FULL = /No space left on device|Disk quota exceeded|: Wrote only \d+ of \d+ bytes/;

/** @throws OsImageError `no-space` before anything is written, when a build cannot end well */
export async function requireRoom(folder: string, bytes: number = BUILD_BYTES): Promise<void> {
  const { bavail, bsize } = await statfs(folder);
  const free = bavail * bsize;
  if (free < bytes)
    throw noSpace(folder, `a build writes up to ${bytes / MB} MB and ${Math.floor(free / MB)} MB are free`, {
      expected: `${bytes / MB} MB`,
      found: `${Math.floor(free / MB)} MB`,
    });
}

/** What went wrong in a build, as an error of this package that says at which step and what to do. */
export function buildFailure(
  error: unknown,
  { step, folder }: { step: string; folder: string },
): OsImageError {
  if (isFull(error)) return noSpace(folder, `the disk became full at the step "${step}"`, { cause: error });
  if (error instanceof OsImageError) return error;
  const { message } = error as Error;
  return new OsImageError(
    'build-failed',
    `The image was not built: the step "${step}" in ${folder} failed, and nothing was left there: ${message}`,
    { cause: error },
  );
}

/** Whether this, or what it came from, says that a disk is full. */
function isFull(error: unknown): boolean {
  for (let one = error; one instanceof Error; one = one.cause)
    if (FULL.includes((one as NodeJS.ErrnoException).code) || SAID_FULL.test(one.message)) return true;
  return false;
}

function noSpace(
  folder: string,
  why: string,
  details: { cause?: unknown; expected?: string; found?: string },
): OsImageError {
  return new OsImageError(
    'no-space',
    `There is no room for an image in ${folder}: ${why}. Nothing was left there; free some space, or build elsewhere`,
    details,
  );
}
