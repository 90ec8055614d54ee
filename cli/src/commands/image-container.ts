import { resolve } from 'node:path';
import {
  buildContainers,
  CONTAINER_PROGRAMS,
  containerFileNames,
  readLock,
  recipeFolder,
} from '@dstack-cloud/os-image';
import { containerProgramsDirectory } from '@dstack-cloud/vmm';
import type { Context } from '../context.ts';
import { CliError, EXIT } from '../errors.ts';
import { imageCache } from '../image/places.ts';
import { requireAbsent } from '../image/require-absent.ts';
import { VERSION } from '../version.ts';

/** `image container`: our own services as container images, without a container engine. */
export async function run(
  context: Context,
  args: readonly string[],
  options: Readonly<Record<string, unknown>>,
): Promise<undefined> {
  const known = Object.keys(CONTAINER_PROGRAMS);
  const names = args.length === 0 ? known : [...new Set(args)];
  const unknown = names.find((name) => !known.includes(name));
  if (unknown !== undefined)
    throw new CliError('bad_argument', `There is no container image of ${JSON.stringify(unknown)}`, {
      expected: known.join(', '),
      exitCode: EXIT.usage,
    });
  const path = (key: string) =>
    options[key] === undefined ? undefined : resolve(context.directory, String(options[key]));
  const output = path('output') ?? context.directory;
  for (const name of names) {
    const { archive, bill } = containerFileNames(name, VERSION);
    for (const file of [archive, bill])
      await requireAbsent(resolve(output, file), 'Remove it, or name another folder with --output');
  }
  const given = path('packages');
  const built = await buildContainers({
    lock: await readLock(path('lock') ?? resolve(recipeFolder(context.env), 'lock.json')),
    programs: containerProgramsDirectory(),
    names,
    version: VERSION,
    output,
    store: { cache: imageCache(context), say: context.info, ...(given === undefined ? {} : { given }) },
    say: context.info,
  });
  for (const { name, archive, reference, manifest, config } of built) {
    context.print(`${name}`);
    context.print(`  archive:  ${archive}`);
    context.print(`  name:     ${reference}`);
    context.print(`  digest:   sha256:${manifest}`);
    context.print(`  image id: sha256:${config}`);
  }
  context.result(
    built.map(({ name, reference, archive, billOfMaterials, manifest, config }) => ({
      name,
      reference,
      archive,
      sbom: billOfMaterials,
      digest: `sha256:${manifest}`,
      image_id: `sha256:${config}`,
    })),
  );
  return undefined;
}
