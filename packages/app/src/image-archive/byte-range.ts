import type { FileHandle } from 'node:fs/promises';
import { AppError } from '../errors.ts';

/** Bytes that can be read at any place: a file, a disk, or a part of one. */
export interface ByteRange {
  /** Up to `length` bytes from `position` on; fewer only at the end. */
  read(position: number, length: number): Promise<Uint8Array>;
}

/** A whole file or disk. */
export function fileRange(handle: FileHandle): ByteRange {
  return {
    read: async (position, length) => {
      const buffer = new Uint8Array(length);
      let at = 0;
      while (at < length) {
        const { bytesRead } = await handle.read(buffer, at, length - at, position + at);
        if (bytesRead === 0) break;
        at += bytesRead;
      }
      return buffer.subarray(0, at);
    },
  };
}

/** A part of a range. */
export function partOf(whole: ByteRange, start: number, size: number): ByteRange {
  return {
    read: async (position, length) => {
      const left = Math.max(0, Math.min(length, size - position));
      return left === 0 ? new Uint8Array(0) : await whole.read(start + position, left);
    },
  };
}

/** All bytes of a part, in pieces. @throws AppError `image-archive-invalid` when it ends early */
export async function* piecesOf(range: ByteRange, size: number): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < size; ) {
    const piece = await range.read(at, Math.min(PIECE, size - at));
    if (piece.length === 0) throw new AppError('image-archive-invalid', 'The archive ends early');
    yield piece;
    at += piece.length;
  }
}

const PIECE = 1024 * 1024;
