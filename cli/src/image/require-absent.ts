import { lstat } from 'node:fs/promises';
import { CliError } from '../errors.ts';

/** Nothing is overwritten: an image that machines were deployed with must stay what it is. @throws CliError `exists` */
export async function requireAbsent(path: string, hint: string): Promise<void> {
  try {
    await lstat(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return;
    throw error;
  }
  throw new CliError('exists', `${path} exists already`, { hint });
}
