import { closeSync, constants, fstatSync, openSync } from 'node:fs';
import { FilesError } from './errors.ts';
import { kindOf, requireOwner } from './own-directory.ts';

const { O_APPEND, O_CREAT, O_NOFOLLOW, O_NONBLOCK, O_RDONLY, O_WRONLY } = constants;

/**
 * Opens a file of ours: a regular file of this user with one name. Neither a symbolic nor a hard link is followed, and a
 * FIFO or a device in its place is an error, not something to wait for.
 *
 * @returns a descriptor, for the caller to close
 * @throws FilesError `not-ours`; the file system's error (`ENOENT`) when a file to read is not there
 */
export function openOwnFile(path: string, access: 'read' | 'append'): number {
  const kind = access === 'read' ? O_RDONLY : O_WRONLY | O_APPEND | O_CREAT;
  let file: number;
  try {
    // O_NONBLOCK: opening a FIFO must fail below, or with ENXIO, not hang here.
    file = openSync(path, kind | O_NOFOLLOW | O_NONBLOCK, 0o600);
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    if (code === 'ELOOP' || code === 'ENXIO')
      throw new FilesError('not-ours', `${path} is no regular file`, { cause });
    throw cause;
  }
  try {
    const status = fstatSync(file);
    if (!status.isFile())
      throw new FilesError('not-ours', `${path} is no regular file`, {
        expected: 'a file',
        found: kindOf(status),
      });
    requireOwner(path, status);
    if (status.nlink > 1)
      throw new FilesError('not-ours', `${path} has another name too`, {
        expected: 'no hard link',
        found: `${status.nlink} links`,
      });
    return file;
  } catch (error) {
    closeSync(file);
    throw error;
  }
}
