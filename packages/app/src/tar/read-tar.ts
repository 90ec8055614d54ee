import { EncodingError, isZero, utf8Text } from '@dstack-cloud/encoding';
import { AppError } from '../errors.ts';
import type { ByteSource } from './byte-source.ts';
import { type PaxFields, paxFields } from './pax.ts';
import { parseTarHeader, TAR_BLOCK } from './tar-header.ts';

/** A file or directory; everything else is refused. */
export type TarEntry = {
  readonly kind: 'file' | 'directory';
  /** Relative, without `.` and `..`, parts joined by one slash; empty for the directory that was packed. */
  readonly path: string;
  readonly size: number;
};

/** Takes the contents of one file. */
export type TarSink = { write(part: Uint8Array): Promise<void>; close(): Promise<void> };

const MAX_ENTRIES = 4096;
const MAX_PATH = 255;
const MAX_PAX_BYTES = 64 * 1024;
/** Control characters and backslashes have no place in the name of an image's file. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
const ODD = /[\x00-\x1f\x7f\\]/;

/**
 * Reads a tar archive to its end (POSIX.1-2017 pax, "ustar Interchange Format" and "pax Header Block"): regular files
 * and directories with relative paths, each path once. Links, devices, GNU extensions and sparse files are refused.
 * @param open where the contents go; undefined to pass over them
 * @throws AppError `image-archive-invalid`, and what the sinks throw
 */
export async function readTar(
  source: ByteSource,
  open: (entry: TarEntry) => Promise<TarSink | undefined>,
): Promise<void> {
  const paths = new Set<string>();
  let pax: PaxFields = {};
  for (let entries = 0; ; entries++) {
    if (entries > MAX_ENTRIES) throw invalid(`has more than ${MAX_ENTRIES} entries`);
    const block = await source.take(TAR_BLOCK);
    if (isZero(block)) break;
    const header = parseTarHeader(block, invalid);
    const { type } = header;
    const size = pax.size ?? plainSize(block, header.size);
    if (type === 'x' || type === 'g') {
      if (size > MAX_PAX_BYTES) throw invalid('has an extended header that is too large');
      const fields = paxFields(await contents(source, size));
      if (type === 'x') pax = fields;
      continue;
    }
    const path = pathOf(pax.path ?? decoded(header.name));
    pax = {};
    if (paths.has(path)) throw invalid(`has ${JSON.stringify(path)} twice`);
    paths.add(path);
    if (type === '5') {
      if (size !== 0) throw invalid('has a directory with contents');
      await open({ kind: 'directory', path, size });
    } else if ((type === '0' || type === '\0') && path !== '') {
      await copy(source, size, await open({ kind: 'file', path, size }));
    } else {
      throw invalid(`has an entry that is neither file nor directory: ${JSON.stringify(path)}`);
    }
  }
  for await (const part of source.rest()) {
    if (!isZero(part)) throw invalid('goes on after its end');
  }
}

async function copy(source: ByteSource, size: number, sink: TarSink | undefined): Promise<void> {
  try {
    for await (const part of source.parts(size)) await sink?.write(part);
  } finally {
    await sink?.close();
  }
  await source.take(padding(size));
}

async function contents(source: ByteSource, size: number): Promise<Uint8Array> {
  const bytes = await source.take(size);
  await source.take(padding(size));
  return bytes;
}

function padding(size: number): number {
  return (TAR_BLOCK - (size % TAR_BLOCK)) % TAR_BLOCK;
}

/** Digits, ended by a space, NUL or the field's end. None, and GNU's binary numbers for huge files, are refused. */
function plainSize(block: Uint8Array, size: number): number {
  if (/^ *[0-7]{1,11}[\0 ]*$/.test(String.fromCharCode(...block.subarray(124, 136)))) return size;
  throw invalid('has a header with a broken number');
}

function decoded(name: string): string {
  try {
    return utf8Text(Buffer.from(name, 'latin1'));
  } catch (cause) {
    if (!(cause instanceof EncodingError)) throw cause;
    throw invalid('has a name that is no UTF-8', cause);
  }
}

function pathOf(name: string): string {
  const shown = JSON.stringify(name.slice(0, 80));
  if (name.length > MAX_PATH || ODD.test(name)) throw invalid(`has the unusable name ${shown}`);
  if (name.startsWith('/')) throw invalid(`has the absolute path ${shown}`);
  const parts = name.split('/').filter((part) => part !== '' && part !== '.');
  if (parts.includes('..')) throw invalid(`has a path that leads out of it: ${shown}`);
  return parts.join('/');
}

function invalid(what: string, cause?: unknown): AppError {
  return new AppError('image-archive-invalid', `The image archive ${what}`, { cause });
}
