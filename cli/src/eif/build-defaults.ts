import { stat } from 'node:fs/promises';
import { resolve } from 'node:path';
import type { Context } from '../context.ts';
import { CliError } from '../errors.ts';

/** Where nitro-cli's package puts kernel, command line and init. */
const NITRO_BLOBS = '/usr/share/nitro_enclaves/blobs';

/** Folder of nitro-cli's files: `NITRO_CLI_BLOBS`, else where its package puts them; undefined when there is none. */
export async function defaultBlobs(context: Context): Promise<string | undefined> {
  const named = context.env['NITRO_CLI_BLOBS'];
  if (named !== undefined && named !== '') return resolve(context.directory, named);
  return await stat(NITRO_BLOBS).then(
    () => NITRO_BLOBS,
    (error: NodeJS.ErrnoException) => {
      if (error.code !== 'ENOENT') throw error;
      return undefined;
    },
  );
}

/** The time in the metadata (reproducible-builds.org, SOURCE_DATE_EPOCH); always the same one where nobody says. */
export function sourceDate(context: Context): Date {
  const given = context.env['SOURCE_DATE_EPOCH'];
  if (given === undefined || given === '') return new Date(0);
  if (/^\d{1,11}$/.test(given)) return new Date(Number(given) * 1000);
  throw new CliError('bad_argument', `SOURCE_DATE_EPOCH is not a time: ${JSON.stringify(given)}`, {
    expected: 'seconds since 1970',
  });
}
