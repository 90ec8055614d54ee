import { pinnedRootsOf } from '@dstack-cloud/ra-tls';
import { UtilError } from '../errors.ts';
import { readNamedFile } from '../files.ts';

const MAX_BUNDLE = 256 * 1024;

/** Keys of the roots that a file pins, SPKI DER. @throws UtilError that says what the file is instead */
export async function readPinnedRoots(path: string): Promise<Uint8Array[]> {
  const bytes = await readNamedFile(path, `failed to read root CA from ${path}`, MAX_BUNDLE);
  const found = pinnedRootsOf(new TextDecoder().decode(bytes));
  if ('problem' in found) throw new UtilError(`${path} ${found.problem}`, found.cause);
  return found.spkis;
}
