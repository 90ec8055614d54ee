import { stat } from 'node:fs/promises';
import { type Architecture, type BuildEifOptions, buildEif, openBootFiles } from '@dstack-cloud/eif';
import type { Context } from '../context.ts';
import { defaultBlobs, sourceDate } from '../eif/build-defaults.ts';
import { type Options, pathOption, readGiven, signerOption, textOption } from '../eif/options.ts';
import { printMeasurements } from '../eif/print-measurements.ts';
import { CliError, EXIT } from '../errors.ts';
import { VERSION } from '../version.ts';

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
