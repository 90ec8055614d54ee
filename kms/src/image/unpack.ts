import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { createGunzip } from 'node:zlib';
import { AppError, ByteSource, readTar, type TarEntry, type TarSink } from '@dstack-cloud/app/tar';
import { errorChain } from '@dstack-cloud/runtime';
import { KmsError } from '../errors.ts';

/**
 * Unpacks a .tar.gz as it arrives. Only files of the top level are kept: no other can belong to an image
 * (docs/protocol/images.md section 5); each is on disk when this returns.
 * @throws KmsError `image-invalid` for anything that is no such archive; what `archive` and the file system throw
 */
export async function unpack(
  archive: AsyncIterable<Uint8Array>,
  directory: string,
  { maxBytes, signal }: { readonly maxBytes: number; readonly signal: AbortSignal },
): Promise<void> {
  const sink = (entry: TarEntry): Promise<TarSink | undefined> =>
    entry.kind === 'file' && !entry.path.includes('/')
      ? fileSink(join(directory, entry.path))
      : Promise.resolve(undefined);
  try {
    await pipeline(
      archive,
      createGunzip(),
      (unpacked: AsyncIterable<Uint8Array>) => readTar(new ByteSource(unpacked, maxBytes), sink),
      { signal },
    );
  } catch (error) {
    if (signal.aborted) throw signal.reason;
    if (error instanceof AppError) throw new KmsError('image-invalid', error.message, { cause: error });
    const code = (error as NodeJS.ErrnoException).code ?? '';
    if (!code.startsWith('Z_')) throw error;
    throw new KmsError('image-invalid', `The image archive is no gzip file: ${errorChain(error)}`, {
      cause: error,
    });
  }
}

async function fileSink(path: string): Promise<TarSink> {
  const file = await open(path, 'wx', 0o600);
  return {
    write: async (part) => {
      await file.writeFile(part);
    },
    close: async () => {
      try {
        await file.sync();
      } finally {
        await file.close();
      }
    },
  };
}
