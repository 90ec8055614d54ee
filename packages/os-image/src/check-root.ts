import { createReadStream } from 'node:fs';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { equalBytes, toHex } from '@dstack-cloud/encoding';
import { OsImageError } from './errors.ts';
import { readGpt, SECTOR } from './formats/gpt.ts';
import { VERITY_BLOCK, verityTree } from './formats/verity.ts';
import type { OsImageFolder } from './read-image.ts';
import { DISK } from './recipe/recipe.ts';

const TABLE_BYTES = 34 * SECTOR;
const PIECE = 1024 * 1024;

/**
 * Checks the root file system of an image as the kernel does at every boot: its hash tree must lead to the root hash on
 * the command line. Nothing else names this file.
 *
 * @throws OsImageError `not-an-image` with where it is cut off, or what differs
 */
export async function checkRoot({ folder, rootfs, commandLine }: OsImageFolder): Promise<void> {
  if (rootfs === undefined) return;
  const path = join(folder, rootfs);
  const word = (name: string) => new RegExp(`(?:^| )${name}=([0-9a-f]+)(?: |$)`).exec(commandLine)?.[1];
  const [hash, size] = [word('dstack.rootfs_hash'), Number(word('dstack.rootfs_size'))];
  if (hash === undefined || !Number.isSafeInteger(size) || size <= 0 || size % VERITY_BLOCK !== 0)
    throw refused(path, 'the command line does not name its hash and size');
  const file = await open(path, 'r');
  try {
    const table = new Uint8Array(TABLE_BYTES);
    await file.read(table, 0, TABLE_BYTES, 0);
    const partition = partitionIn(path, table);
    const has = (await file.stat()).size;
    const needs = partition.end;
    if (has < needs)
      throw refused(path, `it is cut off: it has ${has} bytes, and its partition ends at ${needs}`, {
        expected: `${needs} bytes`,
        found: `${has} bytes`,
      });
    const end = partition.start + size;
    if (end > needs) throw refused(path, `the command line names ${size} bytes, more than its partition has`);
    const data = createReadStream(path, { start: partition.start, end: end - 1, highWaterMark: PIECE });
    const { tree, rootHash } = await verityTree(data, { salt: new Uint8Array(32), uuid: DISK.verityUuid });
    if (toHex(rootHash) !== hash)
      throw refused(path, 'it is not the one whose hash the command line names', {
        expected: hash,
        found: toHex(rootHash),
      });
    const stored = new Uint8Array(tree.length);
    const { bytesRead } = await file.read(stored, 0, stored.length, end);
    if (bytesRead !== stored.length || !equalBytes(stored, tree))
      throw refused(path, 'its hash tree is damaged');
  } finally {
    await file.close();
  }
}

function partitionIn(path: string, table: Uint8Array): { start: number; end: number } {
  try {
    const root = readGpt(table).partitions.find(({ name }) => name === 'dstack-rootfs');
    if (root !== undefined)
      return { start: Number(root.firstLba) * SECTOR, end: (Number(root.lastLba) + 1) * SECTOR };
  } catch (cause) {
    throw refused(path, 'its partition table cannot be read', { cause });
  }
  throw refused(path, 'it has no partition dstack-rootfs');
}

function refused(
  path: string,
  why: string,
  details: { cause?: unknown; expected?: string; found?: string } = {},
): OsImageError {
  return new OsImageError(
    'not-an-image',
    `The root file system ${path} would not start: ${why}; build or download the image again`,
    details,
  );
}
