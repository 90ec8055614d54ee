import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { bootRegisters, type OsImageFolder } from '@dstack-cloud/os-image';
import type { Context } from '../context.ts';
import { findImage } from '../image/find-image.ts';
import { requireSoundImage } from '../image/require-sound-image.ts';

/** `image measure`: what names an image on chain, after it was checked that this stands for the files in its folder. */
export async function run(context: Context, args: readonly string[]): Promise<undefined> {
  const image = await findImage(context, args[0]!);
  await requireSoundImage(image);
  const authHash = (await textFile(image, 'auth_hash.txt'))?.trim() ?? null;
  const registers = await bootRegisters(join(image.folder, 'uki.efi'));
  context.print(`os-image-hash: ${image.digest}`);
  context.print(`uki-hash:      ${authHash ?? '(no unified kernel image)'}`);
  if (registers !== undefined) {
    context.print(`pcr4 (OVMF):   ${registers.pcr4}`);
    context.print(`pcr9:          ${registers.pcr9}`);
  }
  context.print(`flavour:       ${image.isDev ? 'dev' : 'prod'}`);
  context.print(`cmdline:       ${image.commandLine}`);
  context.result({
    os_image_hash: image.digest,
    auth_hash: authHash,
    pcr4: registers?.pcr4 ?? null,
    pcr9: registers?.pcr9 ?? null,
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
