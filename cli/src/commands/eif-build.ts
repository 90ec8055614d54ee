import { stat } from 'node:fs/promises';
import { resolve } from 'node:path';
import { type Architecture, type BuildEifOptions, buildEif, openBootFiles } from '@dstack-cloud/eif';
import type { Context } from '../context.ts';
import { type Options, pathOption, readGiven, signerOption, textOption } from '../eif/options.ts';
import { printMeasurements } from '../eif/print-measurements.ts';
import { CliError, EXIT } from '../errors.ts';
import { VERSION } from '../version.ts';

/** Where nitro-cli's package puts kernel, command line and init. */
const NITRO_BLOBS = '/usr/share/nitro_enclaves/blobs';
const MIB = 2 ** 20;

/** `eif build`: an enclave image from a container image or a folder, without Docker. */
export async function run(context: Context, args: readonly string[], options: Options): Promise<undefined> {
  const output = pathOption(context, options, 'output')!;
  const root = await rootOption(context, options);
  const signer = await signerOption(context, options);
  const customMetadata = await metadataOption(context, options);
  const buildTime = sourceDate(context);
  const boot = await openBootFiles({
    folder: pathOption(context, options, 'blobs') ?? (await defaultBlobs(context)),
    kernel: pathOption(context, options, 'kernel'),
    commandLine: textOption(options, 'cmdline'),
    ramdisk: pathOption(context, options, 'initRamdisk'),
    architecture: textOption(options, 'arch') as Architecture | undefined,
  });
  try {
    const built = await buildEif({
      root,
      boot,
      pcr1: textOption(options, 'pcr1'),
      command: args.length === 0 ? undefined : args,
      nitroCliCompat: options['nitroCliCompat'] === true,
      signer,
      now: context.now(),
      buildTime,
      tool: { name: 'dstack-cloud', version: VERSION },
      imageName: textOption(options, 'name'),
      imageVersion: textOption(options, 'imageVersion'),
      customMetadata,
      output,
      warn: context.warn,
    });
    context.info(
      `Built ${output}, ${Math.ceil(built.size / MIB)} MiB; its enclave needs ${Math.max(64, Math.ceil((4 * built.size) / MIB))} MiB of memory or more`,
    );
    context.info(
      built.isAwsBoot
        ? 'Kernel, command line and init are those that AWS publishes with nitro-cli'
        : 'Kernel, command line and init are not known: PCR 1 is not that of nitro-cli',
    );
    printMeasurements(context, built.pcrs, built.pcr8);
  } finally {
    await boot.close();
  }
  return undefined;
}

async function rootOption(context: Context, options: Options): Promise<BuildEifOptions['root']> {
  const image = pathOption(context, options, 'image');
  const folder = pathOption(context, options, 'root');
  const path = image ?? folder;
  if (path === undefined || (image !== undefined && folder !== undefined))
    throw new CliError('usage', 'An enclave image is made from one container image or one folder', {
      expected: 'either --image FILE or --root FOLDER',
      exitCode: EXIT.usage,
    });
  await stat(path).catch((cause: NodeJS.ErrnoException) => {
    if (cause.code !== 'ENOENT') throw cause;
    throw new CliError('file_missing', `${path} does not exist`, {
      ...(image === undefined ? {} : { hint: 'Make it with docker save IMAGE -o FILE' }),
    });
  });
  if (folder !== undefined) return { kind: 'folder', path };
  return { kind: 'container', path, name: textOption(options, 'tag') };
}

async function defaultBlobs(context: Context): Promise<string | undefined> {
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

async function metadataOption(
  context: Context,
  options: Options,
): Promise<Record<string, unknown> | undefined> {
  const path = pathOption(context, options, 'metadata');
  if (path === undefined) return undefined;
  let value: unknown;
  try {
    value = JSON.parse(Buffer.from(await readGiven(path)).toString('utf8'));
  } catch (cause) {
    if (cause instanceof CliError) throw cause;
    throw new CliError('bad_argument', `${path} is not JSON`, { cause });
  }
  if (typeof value === 'object' && value !== null && !Array.isArray(value))
    return value as Record<string, unknown>;
  throw new CliError('bad_argument', `${path} is not a JSON object`, {
    expected: 'such as {"commit":"0123abc"}',
  });
}

/** The time in the metadata (reproducible-builds.org, SOURCE_DATE_EPOCH); always the same one where nobody says. */
function sourceDate(context: Context): Date {
  const given = context.env['SOURCE_DATE_EPOCH'];
  if (given === undefined || given === '') return new Date(0);
  if (/^\d{1,11}$/.test(given)) return new Date(Number(given) * 1000);
  throw new CliError('bad_argument', `SOURCE_DATE_EPOCH is not a time: ${JSON.stringify(given)}`, {
    expected: 'seconds since 1970',
  });
}
