import { lstatSync } from 'node:fs';

/**
 * Whether there is anything under this name, also a link that leads nowhere. Unlike `existsSync`, which takes whatever
 * cannot be looked at for absent.
 *
 * @throws the file system's error, for example `EACCES`
 */
export function isThere(path: string): boolean {
  try {
    return lstatSync(path, { throwIfNoEntry: false }) !== undefined;
  } catch (error) {
    // A name below a file: nothing can be there.
    if ((error as NodeJS.ErrnoException).code === 'ENOTDIR') return false;
    throw error;
  }
}
