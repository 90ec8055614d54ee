import { closeSync, fstatSync, readSync } from 'node:fs';
import { FilesError, openOwnFile } from '@dstack-cloud/files';
import { WatcherError } from '../errors.ts';

const MIN_SECRET = 16;
const MAX_SECRET = 4_096;
const OTHERS_READ = 0o077;

/**
 * The secret of a file that is ours and that nobody else can read.
 * @param key of the configuration that names the file
 * @throws WatcherError `bad-configuration`
 */
export function readSecret(key: string, path: string): string {
  const bad = (what: string, details: ConstructorParameters<typeof WatcherError>[2] = {}): WatcherError =>
    new WatcherError('bad-configuration', `${key}: ${what}`, details);
  const file = open(path, bad);
  try {
    const { mode, size } = fstatSync(file);
    if ((mode & OTHERS_READ) !== 0)
      throw bad(`${path} can be read by others`, {
        expected: 'mode 0600',
        found: (mode & 0o777).toString(8),
        hint: `chmod 600 ${path}`,
      });
    const bytes = Buffer.alloc(Math.min(size, MAX_SECRET + 1));
    const secret = bytes.toString('utf8', 0, readSync(file, bytes, 0, bytes.length, 0)).trim();
    if (secret.length >= MIN_SECRET && secret.length <= MAX_SECRET) return secret;
    throw bad(`${path} holds no usable secret`, {
      expected: `${MIN_SECRET} to ${MAX_SECRET} characters`,
      found: `${secret.length}`,
    });
  } finally {
    closeSync(file);
  }
}

function open(
  path: string,
  bad: (what: string, details?: ConstructorParameters<typeof WatcherError>[2]) => WatcherError,
): number {
  try {
    return openOwnFile(path, 'read');
  } catch (error) {
    if (error instanceof FilesError)
      throw bad(error.message, { expected: error.expected, found: error.found });
    const { code, message } = error as NodeJS.ErrnoException;
    throw bad(code === 'ENOENT' ? `${path} does not exist` : `${path} cannot be read: ${message}`);
  }
}
