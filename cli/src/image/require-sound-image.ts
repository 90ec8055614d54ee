import { checkImage, OsImageError, type OsImageFolder } from '@dstack-cloud/os-image';
import { CliError, EXIT } from '../errors.ts';

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
