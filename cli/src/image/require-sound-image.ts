import { join } from 'node:path';
import { readFileBounded } from '@dstack-cloud/app';
import { isThere } from '@dstack-cloud/files';
import { checkImage, OsImageError, type OsImageFolder, readImage } from '@dstack-cloud/os-image';
import { CliError, EXIT } from '../errors.ts';

const MAX_LIST = 64 * 1024;

/** Refuses an image whose hash does not stand for its files. @throws CliError `not_verified` */
export async function requireSoundImage(image: OsImageFolder): Promise<void> {
  try {
    await checkImage(image);
  } catch (cause) {
    if (!(cause instanceof OsImageError)) throw cause;
    const { message, expected, found } = cause;
    throw new CliError('not_verified', message, {
      ...{ cause, exitCode: EXIT.refused, hint: 'Do not use this image; build or download it again' },
      ...(expected !== undefined && { expected }),
      ...(found !== undefined && { found }),
    });
  }
}

/**
 * Does so for the image in a folder. An archive for the cloud alone lacks files that its list names, and is left to those
 * that measure it.
 *
 * @throws CliError `not_verified`
 */
export async function requireSoundFolder(folder: string): Promise<void> {
  const path = join(folder, 'sha256sum.txt');
  if (!isThere(path) || !isThere(join(folder, 'metadata.json'))) return;
  const list = new TextDecoder().decode(await readFileBounded(path, MAX_LIST));
  const names = [...list.matchAll(/^[0-9a-f]{64} [ *]([A-Za-z0-9._-]+)$/gm)].map(([, name]) => name!);
  if (names.every((name) => isThere(join(folder, name)))) await requireSoundImage(await readImage(folder));
}
