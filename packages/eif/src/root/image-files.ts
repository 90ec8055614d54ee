import { stat } from 'node:fs/promises';
import { join, posix } from 'node:path';
import { utf8Text } from '@dstack-cloud/encoding';
import { type ByteSource, type FileSource, openSource, partOf } from '../byte-source.ts';
import { EifError } from '../errors.ts';
import { walkLayer } from './walk-layer.ts';

/** Most of a manifest or a configuration. */
const MAX_JSON = 4 << 20;
/** Most members of the archive around the layers. */
const MAX_MEMBERS = 10_000;

/** The files that a container image consists of, in a folder or in a tar archive. */
export interface ImageFiles {
  has(name: string): Promise<boolean>;
  /** @throws EifError `bad-image` when it is not there */
  open(name: string): Promise<ByteSource>;
  close(): Promise<void>;
}

/** Opens an image: a `docker save` archive, an OCI layout as folder or archive. */
export async function openImageFiles(path: string): Promise<ImageFiles> {
  return (await stat(path)).isDirectory() ? inFolder(path) : await inArchive(path);
}

/** A small JSON file of the image. */
export async function readJson(
  files: ImageFiles,
  name: string,
): Promise<{ value: unknown; bytes: Uint8Array }> {
  const source = await files.open(name);
  if (source.size > MAX_JSON)
    throw new EifError('too-large', `${name} of the image is too long`, {
      expected: `at most ${MAX_JSON} bytes`,
      found: `${source.size} bytes`,
    });
  const bytes = await source.read(0, source.size);
  try {
    return { value: JSON.parse(utf8Text(bytes)), bytes };
  } catch (cause) {
    throw new EifError('bad-image', `${name} of the image is not JSON`, { cause });
  }
}

function inFolder(folder: string): ImageFiles {
  const open = new Map<string, FileSource>();
  const place = (name: string): string => join(folder, ...inside(name).split('/'));
  return {
    has: (name) =>
      stat(place(name)).then(
        (info) => info.isFile(),
        (error: NodeJS.ErrnoException) => {
          if (error.code === 'ENOENT') return false;
          throw error;
        },
      ),
    open: async (name) => {
      const known = open.get(name);
      if (known) return known;
      const source = await openSource(place(name)).catch((error: NodeJS.ErrnoException) => {
        if (error.code === 'ENOENT') missing(name);
        throw error;
      });
      open.set(name, source);
      return source;
    },
    close: async () => void (await Promise.all([...open.values()].map((one) => one.close()))),
  };
}

async function inArchive(path: string): Promise<ImageFiles> {
  const archive = await openSource(path);
  const members = new Map<string, { offset: number; size: number } | { link: string }>();
  try {
    const gzip = archive.size > 2 ? await archive.read(0, 2) : new Uint8Array(2);
    if (gzip[0] === 0x1f && gzip[1] === 0x8b)
      throw new EifError('bad-image', `${path} is compressed`, { hint: `Unpack it first: gunzip ${path}` });
    for await (const { name, kind, linkName, offset, size } of walkLayer(archive)) {
      if (members.size >= MAX_MEMBERS)
        throw new EifError('too-large', `${path} has too many members for a container image`, {
          expected: `at most ${MAX_MEMBERS}`,
        });
      const at = posix.normalize(name);
      if (kind === 'file') members.set(at, { offset, size });
      // Docker before version 25 writes a layer that occurs twice as a link.
      if (kind === 'symlink') members.set(at, { link: posix.join(posix.dirname(at), linkName) });
      if (kind === 'link') members.set(at, { link: posix.normalize(linkName) });
    }
  } catch (error) {
    await archive.close();
    throw error;
  }
  const find = (name: string) => {
    const member = members.get(posix.normalize(name));
    return member && 'link' in member ? members.get(member.link) : member;
  };
  return {
    has: async (name) => find(name) !== undefined,
    open: async (name) => {
      const member = find(name);
      if (member === undefined || 'link' in member) return missing(name);
      return partOf(archive, member.offset, member.size, name);
    },
    close: () => archive.close(),
  };
}

/** The image names its files: none of them may lead out of it. */
function inside(name: string): string {
  const normal = posix.normalize(name);
  if (normal.startsWith('/') || normal.split('/').includes('..') || normal.includes('\0'))
    throw new EifError('bad-image', `The image names a file outside of itself: ${JSON.stringify(name)}`);
  return normal;
}

function missing(name: string): never {
  throw new EifError('bad-image', `${JSON.stringify(name)} is missing from the image`);
}
