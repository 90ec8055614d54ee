import { createWriteStream } from 'node:fs';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { type Extract, extract, type Header } from 'tar-stream';
import { OsImageError } from '../errors.ts';
import type { Content, Entry, FileTree } from './file-tree.ts';

/** Content up to this size is kept in memory, bytes. */
const IN_MEMORY = 64 * 1024;
const MAX_ENTRIES = 100_000;

type Source = Extract extends AsyncIterable<infer Member> ? Member : never;

export interface ReadTarOptions {
  /** Folder for contents that are too large for memory. */
  readonly blobs: string;
  /** Which paths are taken; the others are read over. */
  readonly wanted: (path: string) => boolean;
  /** Package that the files come from. */
  readonly owner?: string;
  /** Makes file names in `blobs` that are used once. */
  readonly nextBlob: () => string;
}

/**
 * Puts the members of a tar archive into a tree: directories, files, symbolic and hard links, with their owners and
 * modes. Devices and the like are refused: no package of ours has any.
 *
 * @throws OsImageError `format`
 */
export async function readTar(
  archive: AsyncIterable<Uint8Array> | NodeJS.ReadableStream,
  tree: FileTree,
  options: ReadTarOptions,
): Promise<void> {
  const reader = extract();
  const source = pipeline(Readable.from(archive), reader);
  let count = 0;
  try {
    for await (const member of reader) {
      if (++count > MAX_ENTRIES)
        throw new OsImageError('format', `The archive has more than ${MAX_ENTRIES} members`);
      const path = absolute(member.header.name);
      if (!options.wanted(path)) {
        member.resume();
        continue;
      }
      const entry = await toEntry(member.header, member, tree, options);
      tree.set(path, entry);
    }
    await source;
  } catch (cause) {
    await source.catch(() => undefined);
    if (cause instanceof OsImageError) throw cause;
    throw new OsImageError('format', `The archive cannot be read: ${(cause as Error).message}`, { cause });
  }
}

async function toEntry(
  header: Header,
  content: Source,
  tree: FileTree,
  options: ReadTarOptions,
): Promise<Entry> {
  const owner = {
    mode: (header.mode ?? 0o644) & 0o7777,
    uid: header.uid ?? 0,
    gid: header.gid ?? 0,
    ...(options.owner === undefined ? {} : { origin: options.owner }),
  };
  switch (header.type) {
    case 'directory':
      content.resume();
      return { ...owner, kind: 'directory' };
    case 'symlink':
      content.resume();
      return { ...owner, mode: 0o777, kind: 'symlink', target: header.linkname ?? '' };
    case 'link': {
      content.resume();
      const linked = tree.get(absolute(header.linkname ?? ''));
      if (linked?.kind !== 'file')
        throw new OsImageError(
          'format',
          `${header.name} is a hard link to ${header.linkname}, which is not there`,
        );
      return linked;
    }
    case 'file':
    case 'contiguous-file':
      return { ...owner, kind: 'file', content: await keep(header.size ?? 0, content, options) };
    default:
      throw new OsImageError('format', `${header.name} is a ${header.type}, which an image may not have`);
  }
}

async function keep(size: number, content: Source, options: ReadTarOptions): Promise<Content> {
  if (size <= IN_MEMORY) {
    const chunks: Buffer[] = [];
    for await (const chunk of content) chunks.push(chunk as Buffer);
    return new Uint8Array(Buffer.concat(chunks));
  }
  const file = join(options.blobs, options.nextBlob());
  await pipeline(content, createWriteStream(file));
  return { file, size };
}

function absolute(name: string): string {
  return `/${name.replace(/^\.?\/+/, '').replace(/\/+$/, '')}`;
}
