import { closeSync, openSync, readSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { AuditError } from './errors.ts';
import type { ReadLeaves } from './merkle-tree.ts';
import { PackedHashes } from './packed-hashes.ts';

const HASH_BYTES = 32;

/** Hashes of all records, 32 bytes each: the leaves of the tree, also of segments that were rotated away. */
const HASHES_FILE = 'audit.hashes';

/** Path of the hash file of a log. */
export function hashFilePath(directory: string): string {
  return join(directory, HASHES_FILE);
}

/** All hashes of a log. @param repair leave out an incomplete last one */
export async function readHashFile(directory: string, repair: boolean): Promise<PackedHashes> {
  const path = hashFilePath(directory);
  const bytes = await readFile(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return Buffer.alloc(0);
    throw error;
  });
  if (bytes.length % HASH_BYTES !== 0 && !repair) throw new AuditError('malformed', `${path} is not whole`);
  const hashes = new PackedHashes();
  for (let at = 0; at + HASH_BYTES <= bytes.length; at += HASH_BYTES) {
    hashes.push(bytes.subarray(at, at + HASH_BYTES));
  }
  return hashes;
}

/** Reads leaves from the hash file: at most a few kilobytes at a time, from the page cache. */
export function hashFileReader(directory: string): ReadLeaves {
  return (first, count) => {
    const file = openSync(hashFilePath(directory), 'r');
    try {
      const bytes = new Uint8Array(count * HASH_BYTES);
      const read = readSync(file, bytes, 0, bytes.length, first * HASH_BYTES);
      const whole = Math.floor(read / HASH_BYTES);
      return Array.from({ length: whole }, (_, index) =>
        bytes.subarray(index * HASH_BYTES, (index + 1) * HASH_BYTES),
      );
    } finally {
      closeSync(file);
    }
  };
}
