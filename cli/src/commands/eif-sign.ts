import { resolve } from 'node:path';
import { signEif } from '@dstack-cloud/eif';
import type { Context } from '../context.ts';
import { type Options, pathOption, signerOption } from '../eif/options.ts';
import { printMeasurements } from '../eif/print-measurements.ts';
import { withEif } from '../eif/with-eif.ts';
import { CliError, EXIT } from '../errors.ts';
import { requireAbsent } from '../image/require-absent.ts';

/** `eif sign`: signs an image in place, or into another file. */
export async function run(context: Context, args: readonly string[], options: Options): Promise<undefined> {
  const file = resolve(context.directory, args[0]!);
  const output = pathOption(context, options, 'output') ?? file;
  const signer = await signerOption(context, options);
  if (signer === undefined)
    throw new CliError('usage', 'No signer given', {
      expected: '--signing-certificate FILE with either --private-key FILE or --sign-command COMMAND',
      exitCode: EXIT.usage,
    });
  if (output !== file) await requireAbsent(output, 'Remove it, or name another file with --output');
  const { pcrs, pcr8 } = await withEif(context, file, (eif, source) =>
    signEif(source, eif, { signer, now: context.now(), output }),
  );
  context.info(`Signed ${output}`);
  printMeasurements(context, pcrs, pcr8);
  return undefined;
}
