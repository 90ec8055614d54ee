import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { removeAbandoned, temporaryName } from '@dstack-cloud/files';

/**
 * A new hidden folder for the intermediate files of a build. What builds that were killed left in `parent` is removed first:
 * it may be more than a gigabyte, and nobody else comes back for it.
 */
export async function makeWorkFolder(parent: string, name: string): Promise<string> {
  removeAbandoned(parent);
  const work = join(parent, temporaryName(name));
  await mkdir(work, { mode: 0o700 });
  return work;
}
