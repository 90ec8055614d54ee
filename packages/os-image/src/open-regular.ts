import { constants, type FileHandle, open } from 'node:fs/promises';
import { OsImageError } from './errors.ts';

/**
 * Opens a file of an image for reading; undefined when there is none. An image may be somebody else's folder: nothing is
 * read through a link, and nothing that waits or never ends is read at all.
 *
 * @throws OsImageError `not-an-image`
 */
export async function openRegular(path: string): Promise<FileHandle | undefined> {
  const refused = (cause?: unknown) =>
    new OsImageError('not-an-image', `${path} is not a regular file`, { cause });
  const flags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;
  const file = await open(path, flags).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined;
    throw ['ELOOP', 'ENXIO'].includes(error.code ?? '') ? refused(error) : error;
  });
  if (file === undefined) return undefined;
  if ((await file.stat()).isFile()) return file;
  await file.close();
  throw refused();
}

/** The bytes of such a file. @throws OsImageError `not-an-image` */
export async function readRegular(path: string, max: number): Promise<Uint8Array | undefined> {
  const file = await openRegular(path);
  if (file === undefined) return undefined;
  try {
    const { size } = await file.stat();
    if (size > max) throw new OsImageError('not-an-image', `${path} has ${size} bytes, more than ${max}`);
    return new Uint8Array(await file.readFile());
  } finally {
    await file.close();
  }
}
