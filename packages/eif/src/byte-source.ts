import { type FileHandle, open } from 'node:fs/promises';
import { EifError } from './errors.ts';

/** Most that is read, hashed and written at once. */
export const CHUNK: number = 1 << 20;

/** Bytes of known length that are read at any place: a file, a part of one, or memory. */
export interface ByteSource {
  /** What messages call it. */
  readonly name: string;
  readonly size: number;
  /**
   * `length` bytes from `offset` on. @throws EifError `truncated` beyond the end, `changed` when the file got shorter
   */
  read(offset: number, length: number): Promise<Uint8Array>;
}

/** An open file. */
export interface FileSource extends ByteSource {
  close(): Promise<void>;
}

/** Bytes in memory. */
export function bytesSource(name: string, bytes: Uint8Array): ByteSource {
  return {
    name,
    size: bytes.length,
    read: async (offset, length) => {
      requireWithin(name, bytes.length, offset, length);
      return bytes.subarray(offset, offset + length);
    },
  };
}

/** Opens a regular file. @throws EifError `bad-argument` for anything else; errors of the file system */
export async function openSource(path: string): Promise<FileSource> {
  const handle = await open(path, 'r');
  try {
    const info = await handle.stat();
    if (!info.isFile()) throw new EifError('bad-argument', `${path} is not a regular file`);
    return fileSource(path, handle, info.size);
  } catch (error) {
    await handle.close();
    throw error;
  }
}

function fileSource(name: string, handle: FileHandle, size: number): FileSource {
  return {
    name,
    size,
    read: async (offset, length) => {
      requireWithin(name, size, offset, length);
      const bytes = new Uint8Array(length);
      let at = 0;
      while (at < length) {
        const { bytesRead } = await handle.read(bytes, at, length - at, offset + at);
        if (bytesRead === 0) throw new EifError('changed', `${name} became shorter while it was read`);
        at += bytesRead;
      }
      return bytes;
    },
    close: () => handle.close(),
  };
}

/** A part of another source, which it must lie in. */
export function partOf(source: ByteSource, offset: number, size: number, name: string): ByteSource {
  requireWithin(source.name, source.size, offset, size);
  return {
    name,
    size,
    read: (at, length) => {
      requireWithin(name, size, at, length);
      return source.read(offset + at, length);
    },
  };
}

/** The bytes from `offset` on in pieces of at most {@link CHUNK}; the next piece is read while one is used. */
export async function* chunks(
  source: ByteSource,
  offset: number,
  length: number,
): AsyncGenerator<Uint8Array> {
  const end = offset + length;
  let ahead: Promise<Uint8Array> | undefined;
  const readAt = (at: number): Promise<Uint8Array> => {
    const piece = source.read(at, Math.min(CHUNK, end - at));
    piece.catch(() => undefined);
    return piece;
  };
  try {
    for (let at = offset; at < end; ) {
      const piece: Uint8Array = await (ahead ?? readAt(at));
      at += piece.length;
      ahead = at < end ? readAt(at) : undefined;
      yield piece;
    }
  } finally {
    // A reader that stops early closes the file next: not under a read.
    await ahead?.catch(() => undefined);
  }
}

function requireWithin(name: string, size: number, offset: number, length: number): void {
  if (offset + length <= size) return;
  throw new EifError('truncated', `${name} ends too early`, {
    expected: `at least ${offset + length} bytes`,
    found: `${size} bytes`,
  });
}
