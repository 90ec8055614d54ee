import { readFile } from 'node:fs/promises';
import { type PasswordCheck, passwordCheck } from '@dstack-cloud/prpc';
import { KmsError } from '../errors.ts';

/**
 * Reads a bcrypt htpasswd file; no check when none is configured.
 * @param key of the configuration that names it
 * @throws KmsError `config-invalid`
 */
export async function loadPasswordCheck(
  file: string,
  key = 'core.admin.htpasswd_file',
): Promise<PasswordCheck | undefined> {
  if (file === '') return undefined;
  const text = await readFile(file, 'utf8').catch((cause: unknown) => {
    throw new KmsError('config-invalid', `${key}: "${file}" cannot be read`, { cause });
  });
  const check = passwordCheck(text);
  if (check !== undefined) return check;
  throw new KmsError('config-invalid', `${key}: "${file}" must hold bcrypt entries (htpasswd -B)`);
}
