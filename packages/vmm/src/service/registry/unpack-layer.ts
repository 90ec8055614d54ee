import { open, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import * as zlib from 'node:zlib';
import { AppError, ByteSource, readTar, type TarEntry, type TarSink } from '@dstack-cloud/app/tar';
import { badRegistryImage } from './registry-error.ts';

const GZIP = [
  'application/vnd.oci.image.layer.v1.tar+gzip',
  'application/vnd.docker.image.rootfs.diff.tar.gzip',
];
const ZSTD = 'application/vnd.oci.image.layer.v1.tar+zstd';
const PLAIN = 'application/vnd.oci.image.layer.v1.tar';
/** Names of an image's files, as its own list has them. */
const NAME = /^(?!\.)[A-Za-z0-9._-]{1,64}$/;
const MAX_FILES = 256;

/** Counts what an image takes in all. */
export interface Unpacked {
  bytes: number;
  files: number;
}

/** Refuses a layer of a kind that is not read here, before anything of it is fetched. @throws VmmError `bad_image` */
export function requireKnownLayer(mediaType: string): void {
  if (mediaType === ZSTD && zstdDecompress() === undefined)
    throw badRegistryImage(
      `it has a layer compressed with zstd, which needs Node 22.15 or later, and this is Node ${process.versions.node}: update Node, or push the image with gzip`,
      { expected: 'a tar archive, plain or with gzip', found: mediaType },
    );
  if ([PLAIN, ZSTD, ...GZIP].includes(mediaType)) return;
  throw badRegistryImage('it has a layer of another kind', {
    expected: 'a tar archive, plain or with gzip or zstd',
    found: mediaType,
  });
}

/** A stream that unpacks zstd, which not every version of Node has. */
function zstdDecompress(): (() => Transform) | undefined {
  return (zlib as { createZstdDecompress?: () => Transform }).createZstdDecompress;
}

function decompress(mediaType: string): Transform | undefined {
  if (GZIP.includes(mediaType)) return zlib.createGunzip();
  return mediaType === ZSTD ? zstdDecompress()?.() : undefined;
}

/**
 * Writes the files of a layer into a folder. An image's files lie side by side: there are no folders, links or devices, so
 * that nothing in the archive leads out. A file of a lower layer is replaced.
 *
 * @throws VmmError `bad_image`; what `blob` and the file system throw
 */
export async function unpackLayer(
  blob: AsyncIterable<Uint8Array>,
  folder: string,
  options: {
    readonly mediaType: string;
    readonly maxBytes: number;
    readonly so: Unpacked;
    readonly signal: AbortSignal;
  },
): Promise<void> {
  const { mediaType, maxBytes, so, signal } = options;
  const read = async (archive: AsyncIterable<Uint8Array>): Promise<void> => {
    const source = new ByteSource(counted(archive, so), maxBytes - so.bytes);
    await readTar(source, async (entry) => await sinkOf(entry, folder, so));
  };
  try {
    const unpack = decompress(mediaType);
    if (unpack === undefined) await read(blob);
    else await pipeline(blob, unpack, read, { signal });
  } catch (cause) {
    signal.throwIfAborted();
    if (cause instanceof AppError)
      throw badRegistryImage(`failed to extract it: ${cause.message}`, { cause });
    if (/^(Z_|ZSTD_)/.test((cause as NodeJS.ErrnoException).code ?? ''))
      throw badRegistryImage(
        `failed to extract it: a layer is no ${mediaType === ZSTD ? 'zstd' : 'gzip'} file`,
        {
          cause,
        },
      );
    throw cause;
  }
}

async function* counted(archive: AsyncIterable<Uint8Array>, so: Unpacked): AsyncGenerator<Uint8Array> {
  for await (const chunk of archive) {
    so.bytes += chunk.length;
    yield chunk;
  }
}

async function sinkOf({ kind, path }: TarEntry, folder: string, so: Unpacked): Promise<TarSink | undefined> {
  if (kind === 'directory') {
    // The folder that was packed, and no other.
    if (path === '') return undefined;
    throw badRegistryImage('failed to extract it: it has a folder', {
      expected: 'files alone',
      found: path.slice(0, 80),
    });
  }
  if (!NAME.test(path))
    throw badRegistryImage('failed to extract it: it has a file with a name that no image has', {
      expected: 'letters, digits, dots, dashes',
      found: JSON.stringify(path.slice(0, 80)),
    });
  if (++so.files > MAX_FILES)
    throw badRegistryImage(`failed to extract it: it has more than ${MAX_FILES} files`);
  const target = join(folder, path);
  await rm(target, { force: true });
  const file = await open(target, 'wx', 0o644);
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
