import { lstatSync, mkdirSync, type Stats } from 'node:fs';
import { dirname } from 'node:path';
import { FilesError } from './errors.ts';

/** Permission bits that give others a say in what a folder holds. */
const OTHERS_WRITE = 0o022;
const STICKY = 0o1000;

/**
 * Refuses a folder that somebody else could have made or could change: it must be a directory, not a link to one, of
 * this user, and writable by nobody else.
 *
 * @param forbidden permission bits that it must not have
 * @throws FilesError `not-ours`; the file system's error (`ENOENT`) when it is not there
 */
export function requireOwnDirectory(path: string, forbidden: number = OTHERS_WRITE): void {
  const status = lstatSync(path);
  if (!status.isDirectory())
    throw new FilesError('not-ours', `${path} is no directory`, {
      expected: 'a directory, not a link',
      found: kindOf(status),
    });
  requireOwner(path, status);
  requireMode(path, status, forbidden);
}

/** Makes a folder for this user alone, with its parents; one that is there already must be ours. @throws FilesError */
export function makeOwnDirectory(path: string, forbidden: number = OTHERS_WRITE): void {
  mkdirSync(path, { recursive: true, mode: 0o700 });
  requireOwnDirectory(path, forbidden);
}

/**
 * Refuses a folder in which others could put another one in the place of `path`: one of another user but root, or one
 * that others may write to, unless it is sticky as `/tmp` is.
 *
 * @throws FilesError `not-ours`; the file system's error (`ENOENT`) when it is not there
 */
export function requireSafeParent(path: string): void {
  const parent = dirname(path);
  const status = lstatSync(parent);
  if (!status.isDirectory())
    throw new FilesError('not-ours', `${parent} is no directory`, { found: kindOf(status) });
  if (status.uid !== 0) requireOwner(parent, status);
  if ((status.mode & STICKY) === 0) requireMode(parent, status, OTHERS_WRITE);
}

/** @throws FilesError `not-ours` unless the file is of this user */
export function requireOwner(path: string, { uid }: Stats): void {
  // Windows has no owners of this kind.
  const own = process.geteuid?.();
  if (own === undefined || uid === own) return;
  throw new FilesError('not-ours', `${path} belongs to another user`, {
    expected: `user ${own}`,
    found: `user ${uid}`,
  });
}

/** @throws FilesError `not-ours` when it has one of the forbidden bits */
function requireMode(path: string, { mode }: Stats, forbidden: number): void {
  if ((mode & forbidden) === 0) return;
  const found = (mode & 0o7777).toString(8);
  const closed = (mode & 0o7777 & ~forbidden).toString(8);
  throw new FilesError(
    'not-ours',
    `Other users may change ${path}: chmod ${closed} it, if its content is right`,
    {
      expected: `mode ${closed}`,
      found: `mode ${found}`,
    },
  );
}

export function kindOf(status: Stats): string {
  if (status.isSymbolicLink()) return 'a symbolic link';
  if (status.isFIFO()) return 'a FIFO';
  if (status.isSocket()) return 'a socket';
  if (status.isDirectory()) return 'a directory';
  return status.isFile() ? 'a file' : 'a device';
}
