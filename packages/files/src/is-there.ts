import { lstatSync } from 'node:fs';

/**
 * Whether there is anything under this name, also a link that leads nowhere. Unlike `existsSync`, which takes whatever
 * cannot be looked at for absent.
 *
 * @throws the file system's error, for example `EACCES`
 */
export function isThere(path: string): boolean {
  return lstatSync(path, { throwIfNoEntry: false }) !== undefined;
}
