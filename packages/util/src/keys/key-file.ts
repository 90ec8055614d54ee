import { closeSync, fstatSync, readFileSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { AppError, parseAppKeys } from '@dstack-cloud/app';
import { FilesError, openOwnFile } from '@dstack-cloud/files';
import { UtilError } from '../errors.ts';

/** Where programs of an enclave look for their keys. */
export const KEY_FILE = '/var/run/dstack/keys.json';
const MAX_BYTES = 256 * 1024;

/**
 * Removes the keys of an earlier run, once their file has proved to be that: a regular file of this user that holds keys.
 * The option that names it may be mistyped.
 *
 * @throws UtilError when something else is there
 */
export async function removeKeyFile(path: string): Promise<void> {
  const other = (cause: unknown): UtilError =>
    new UtilError(
      `${path} is no file with keys of an earlier run, so it was not removed: correct --keys-file`,
      cause,
    );
  let file: number;
  try {
    file = openOwnFile(path, 'read');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return;
    throw other(error);
  }
  try {
    if (fstatSync(file).size > MAX_BYTES) throw other(undefined);
    parseAppKeys(new Uint8Array(readFileSync(file)));
  } catch (error) {
    if (error instanceof AppError || error instanceof FilesError) throw other(error);
    throw error;
  } finally {
    closeSync(file);
  }
  await rm(path, { force: true });
}
