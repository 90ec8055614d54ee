import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { changedFiles, type OsImageFolder } from '@dstack-cloud/os-image';
import type { Context } from '../context.ts';
import { CliError, EXIT } from '../errors.ts';
import { findImage } from '../image/find-image.ts';

/** `image measure`: what names an image on chain, after every file that decides was checked against its hash. */
export async function run(context: Context, args: readonly string[]): Promise<undefined> {
  const image = await findImage(context, args[0]!);
  const [changed] = await changedFiles(image);
  if (changed !== undefined)
    throw new CliError(
      'not_verified',
      `${changed.name} of this image is not the file that sha256sum.txt lists`,
      {
        expected: changed.expected,
        found: changed.found ?? 'no such file',
        hint: 'Do not use this image; build or download it again',
        exitCode: EXIT.refused,
      },
    );
  const authHash = (await textFile(image, 'auth_hash.txt'))?.trim() ?? null;
  context.print(`os-image-hash: ${image.digest}`);
  context.print(`uki-hash:      ${authHash ?? '(no unified kernel image)'}`);
  context.print(`flavour:       ${image.isDev ? 'dev' : 'prod'}`);
  context.print(`cmdline:       ${image.commandLine}`);
  context.result({
    os_image_hash: image.digest,
    auth_hash: authHash,
    flavour: image.isDev ? 'dev' : 'prod',
    version: image.version,
    cmdline: image.commandLine,
    files: Object.fromEntries(image.listed),
  });
  return undefined;
}

async function textFile(image: OsImageFolder, name: string): Promise<string | undefined> {
  try {
    return await readFile(join(image.folder, name), 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}
