import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { RpcError } from '@dstack-cloud/prpc';

/** Names of cached images and measurements, as hex; v0.6 clients add `.json` to the latter. */
const KEY = /^[0-9a-fA-F]{1,128}(\.json)?$/;

/**
 * Removes cached images and measurements: empty means none, `all` means all, else one entry by its hash
 * (docs/protocol/kms.md section 7). An entry that is not there is no error.
 * @throws RpcError for anything that is no hash
 */
export async function clearImageCache(
  directory: string,
  { imageHash, configHash }: { imageHash: string; configHash: string },
): Promise<void> {
  const paths = [
    ...pathsOf(join(directory, 'images'), imageHash, 'image'),
    ...pathsOf(join(directory, 'measurements'), configHash, 'measurement'),
  ];
  for (const path of paths) await rm(path, { recursive: true, force: true });
}

function pathsOf(directory: string, key: string, cache: 'image' | 'measurement'): string[] {
  if (key === '') return [];
  if (key === 'all') return [directory];
  if (!KEY.test(key) || (cache === 'image' && key.endsWith('.json'))) {
    throw new RpcError(`failed to clear ${cache} cache: invalid cache key`, { code: 'INVALID_ARGUMENT' });
  }
  const file = key.toLowerCase();
  return [join(directory, cache === 'measurement' && !file.endsWith('.json') ? `${file}.json` : file)];
}
