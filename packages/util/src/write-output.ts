import { mkdir } from 'node:fs/promises';
import { dirname } from 'node:path';
import { writeFileAtomic } from '@dstack-cloud/app';
import { UtilError } from './errors.ts';

/** Writes to a file, whole or not at all, or to standard output. */
export async function writeOutput(
  path: string | undefined,
  data: Uint8Array | string,
  mode = 0o644,
): Promise<void> {
  if (path === undefined) {
    process.stdout.write(data);
    return;
  }
  try {
    await writeFileAtomic(path, data, { mode });
  } catch (cause) {
    throw new UtilError(`failed to write ${path}`, cause);
  }
}

/** A secret: for this user alone, in a folder that is made when it is missing. */
export async function writeSecret(path: string, data: Uint8Array | string): Promise<void> {
  await mkdir(dirname(path), { recursive: true, mode: 0o700 });
  await writeOutput(path, data, 0o600);
}
