import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { bootRegisters, changedFiles, checkRoot, type OsImageFolder } from '@dstack-cloud/os-image';
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
  await checkRoot(image);
  const authHash = (await textFile(image, 'auth_hash.txt'))?.trim() ?? null;
  const registers = await bootRegisters(join(image.folder, 'uki.efi'));
  if (registers !== undefined && authHash !== null && registers.uki !== authHash)
    throw new CliError('not_verified', 'uki.efi of this image is not the file that auth_hash.txt names', {
      expected: authHash,
      found: registers.uki,
      hint: 'Do not use this image; build or download it again',
      exitCode: EXIT.refused,
    });
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
