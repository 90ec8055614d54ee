/** A key directory whose root was changed: `roots` are the active one and the retired ones, the newest first. */
import { commitKeyFiles } from '../key-directory/commit.ts';
import type { KmsKeys } from '../key-directory/kms-keys.ts';
import {
  generateRoot,
  generateSharedKeys,
  historyFilesOf,
  issueRpcCertificate,
  keyFilesOf,
  keysFor,
} from '../key-directory/new-keys.ts';

export async function writeRotatedDirectory(
  directory: string,
  retired: number,
  now: number,
): Promise<KmsKeys> {
  const history = Array.from({ length: retired }, generateRoot);
  const keys = keysFor({ ...generateSharedKeys(), history }, 'localhost', now);
  const certificate = await issueRpcCertificate(keys, now, undefined);
  await commitKeyFiles(directory, keyFilesOf(keys, certificate), undefined, historyFilesOf(keys));
  return keys;
}
