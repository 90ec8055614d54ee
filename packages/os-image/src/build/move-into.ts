import { lstat, rename } from 'node:fs/promises';
import { OsImageError } from '../errors.ts';

/**
 * Gives a finished folder its name. Of two builds of one name, the one that ends first has it; nothing that is there is
 * changed or followed.
 *
 * @throws OsImageError `exists`
 */
export async function moveInto(made: string, output: string): Promise<void> {
  const there = await lstat(output).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'ENOENT') throw error;
  });
  if (there !== undefined) throw taken(output);
  await rename(made, output).catch((error: NodeJS.ErrnoException) => {
    throw ['ENOTEMPTY', 'EEXIST', 'ENOTDIR'].includes(String(error.code)) ? taken(output) : error;
  });
}

function taken(output: string): OsImageError {
  return new OsImageError(
    'exists',
    `${output} appeared while this build ran, perhaps by another one; it is left as it is, and this build is removed. Give another name with --name`,
  );
}
