import { resolve } from 'node:path';
import { type Eif, EifError, type FileSource, openSource, readEif } from '@dstack-cloud/eif';
import type { Context } from '../context.ts';
import { CliError, EXIT } from '../errors.ts';

/** Opens and reads the enclave image that a command names. */
export async function withEif<T>(
  context: Context,
  file: string,
  use: (eif: Eif, source: FileSource) => Promise<T>,
): Promise<T> {
  const path = resolve(context.directory, file);
  const source = await openSource(path).catch((cause: NodeJS.ErrnoException) => {
    if (cause.code !== 'ENOENT') throw cause;
    throw new CliError('file_missing', `${path} does not exist`);
  });
  try {
    return await use(await readEif(source), source);
  } finally {
    await source.close();
  }
}

/** A file that is refused ends with the exit code for refusals; the code of the error stays. */
export async function refusing<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof EifError && error.code !== 'bad-argument')
      throw Object.assign(error, { exitCode: EXIT.refused });
    throw error;
  }
}
