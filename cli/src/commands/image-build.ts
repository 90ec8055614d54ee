import { opendir } from 'node:fs/promises';
import { resolve } from 'node:path';
import { buildImage, COMPRESSION, type Flavour, readLock, recipeFolder } from '@dstack-cloud/os-image';
import { guestProgramDirectory } from '@dstack-cloud/vmm';
import { loadGlobalConfig } from '../config/global-config.ts';
import type { Context } from '../context.ts';
import { CliError } from '../errors.ts';
import { imageCache, imageFolder, imagePath } from '../image/places.ts';
import { requireAbsent } from '../image/require-absent.ts';
import { VERSION } from '../version.ts';

/** `image build`: an OS image from locked packages. */
export async function run(
  context: Context,
  _args: readonly string[],
  options: Readonly<Record<string, unknown>>,
): Promise<undefined> {
  const flavour: Flavour = options['dev'] === true ? 'dev' : 'prod';
  const name = String(options['name'] ?? `dstack-cloud-${flavour === 'dev' ? 'dev-' : ''}${VERSION}`);
  const path = (key: string) =>
    options[key] === undefined ? undefined : resolve(context.directory, String(options[key]));
  const folder = path('output') ?? imageFolder(context, await loadGlobalConfig(context));
  const output = imagePath(folder, name);
  await requireAbsent(
    output,
    `Remove it with dstack-cloud image rm ${name}, or give another name with --name`,
  );
  const recipe = recipeFolder(context.env);
  const given = path('packages');
  if (given !== undefined) await requireFolder(given);
  const built = await buildImage({
    lock: await readLock(path('lock') ?? resolve(recipe, 'lock.json')),
    recipe,
    programs: guestProgramDirectory(),
    flavour,
    version: VERSION,
    output,
    compression: options['release'] === true ? COMPRESSION.release : COMPRESSION.quick,
    store: { cache: imageCache(context), say: context.info, ...(given === undefined ? {} : { given }) },
    say: context.info,
  });
  context.print(`folder:        ${built.folder}`);
  context.print(`os-image-hash: ${built.digest}`);
  context.print(`uki-hash:      ${built.authHash}`);
  context.print(`flavour:       ${flavour}${flavour === 'dev' ? ' (for development; not for secrets)' : ''}`);
  context.result({
    name,
    folder: built.folder,
    flavour,
    os_image_hash: built.digest,
    auth_hash: built.authHash,
    rootfs_hash: built.rootHash,
    cmdline: built.commandLine,
  });
  return undefined;
}

async function requireFolder(path: string): Promise<void> {
  try {
    await (await opendir(path)).close();
  } catch (cause) {
    const isAbsent = (cause as NodeJS.ErrnoException).code === 'ENOENT';
    throw new CliError(
      'file_missing',
      isAbsent ? `There is no folder ${path}` : `${path} is no folder that can be read`,
      {
        cause,
        hint: 'Name with --packages the folder that has the packages, or leave it out to fetch them',
      },
    );
  }
}
