import { createHash } from 'node:crypto';
import { ByteWriter, utf8 } from '@dstack-cloud/encoding';
import { OsImageError } from '../errors.ts';
import { uuidBytes } from './guid.ts';

/** Size of data and hash blocks, bytes. */
export const VERITY_BLOCK = 4096;
const DIGEST = 32;
const PER_BLOCK = VERITY_BLOCK / DIGEST;

export interface VerityOptions {
  /** At most 256 bytes. */
  readonly salt: Uint8Array;
  readonly uuid: string;
}

export interface Verity {
  /** Superblock and hash tree, as they follow the data. */
  readonly tree: Uint8Array;
  readonly rootHash: Uint8Array;
}

/**
 * Hash tree of a file system for dm-verity (Linux Documentation/admin-guide/device-mapper/verity.rst; on-disk format
 * version 1 of cryptsetup): SHA-256 over salt and block, 4,096-byte blocks, levels from the root down.
 *
 * @param blocks the data in order, in pieces of any size; together a multiple of 4,096 bytes
 */
export async function verityTree(
  blocks: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
  { salt, uuid }: VerityOptions,
): Promise<Verity> {
  if (salt.length > 256) throw new OsImageError('format', 'A verity salt has at most 256 bytes');
  const { digests: leaves, count } = await hashBlocks(blocks, salt);
  if (count === 0) throw new OsImageError('format', 'There is no data to protect');
  const levels: Uint8Array[] = [];
  let digests = leaves;
  while (digests.length > DIGEST) {
    const level = padToBlock(digests);
    levels.unshift(level);
    digests = hashLevel(level, salt);
  }
  const tree = new ByteWriter().bytes(superblock(salt, uuid, count));
  for (const level of levels) tree.bytes(level);
  return { tree: tree.finish(), rootHash: digests };
}

async function hashBlocks(
  blocks: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
  salt: Uint8Array,
): Promise<{ digests: Uint8Array; count: number }> {
  const digests = new ByteWriter();
  const rest = new Uint8Array(VERITY_BLOCK);
  let held = 0;
  for await (const chunk of blocks) {
    let at = 0;
    if (held > 0) {
      at = Math.min(VERITY_BLOCK - held, chunk.length);
      rest.set(chunk.subarray(0, at), held);
      held += at;
      if (held < VERITY_BLOCK) continue;
      digests.bytes(digest(salt, rest));
      held = 0;
    }
    for (; at + VERITY_BLOCK <= chunk.length; at += VERITY_BLOCK)
      digests.bytes(digest(salt, chunk.subarray(at, at + VERITY_BLOCK)));
    held = chunk.length - at;
    rest.set(chunk.subarray(at));
  }
  if (held > 0) throw new OsImageError('format', `The data ends ${held} bytes after a whole block`);
  return { digests: digests.finish(), count: digests.length / DIGEST };
}

function hashLevel(level: Uint8Array, salt: Uint8Array): Uint8Array {
  const out = new Uint8Array((level.length / VERITY_BLOCK) * DIGEST);
  for (let i = 0; i < level.length / VERITY_BLOCK; i++)
    out.set(digest(salt, level.subarray(i * VERITY_BLOCK, (i + 1) * VERITY_BLOCK)), i * DIGEST);
  return out;
}

function digest(salt: Uint8Array, block: Uint8Array): Uint8Array {
  return createHash('sha256').update(salt).update(block).digest();
}

function padToBlock(digests: Uint8Array): Uint8Array {
  const padded = new Uint8Array(Math.ceil(digests.length / (PER_BLOCK * DIGEST)) * VERITY_BLOCK);
  padded.set(digests);
  return padded;
}

/** `struct verity_sb`, in a block of its own. */
function superblock(salt: Uint8Array, uuid: string, dataBlocks: number): Uint8Array {
  const algorithm = new Uint8Array(32);
  algorithm.set(utf8('sha256'));
  const fields = new ByteWriter()
    .bytes(utf8('verity\0\0'))
    .u32le(1)
    .u32le(1)
    .bytes(uuidBytes(uuid))
    .bytes(algorithm)
    .u32le(VERITY_BLOCK)
    .u32le(VERITY_BLOCK)
    .u64le(BigInt(dataBlocks))
    .u16le(salt.length)
    .bytes(new Uint8Array(6))
    .bytes(salt)
    .finish();
  const block = new Uint8Array(VERITY_BLOCK);
  block.set(fields);
  return block;
}
