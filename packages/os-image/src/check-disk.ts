import type { FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import { encodeGcpDocument } from '@dstack-cloud/attestation';
import { equalBytes, fromHex } from '@dstack-cloud/encoding';
import { bootRegisters, MAX_KERNEL_IMAGE } from './boot-registers.ts';
import { espOf } from './build/assemble.ts';
import { OsImageError } from './errors.ts';
import { readGpt, SECTOR } from './formats/gpt.ts';
import { openRegular, readRegular } from './open-regular.ts';
import type { OsImageFolder } from './read-image.ts';
import { DISK } from './recipe/recipe.ts';

const TABLE_BYTES = 34 * SECTOR;
const PIECE = 1024 * 1024;
const MAX_DOCUMENT = 64 * 1024;

/**
 * Checks what firmware starts from the disk of an image: a whole unified kernel image, the one that the image's list
 * names, alone on its partition. The root file system behind it is checked by the kernel, block by block.
 *
 * @throws OsImageError `not-an-image`
 */
export async function checkDisk({ folder }: Pick<OsImageFolder, 'folder'>): Promise<void> {
  const ukiPath = join(folder, 'uki.efi');
  const registers = await bootRegisters(ukiPath);
  if (registers === undefined) throw refused(ukiPath, 'it is missing');
  const documentPath = join(folder, 'measurement.gcp.cbor');
  const document = await readRegular(documentPath, MAX_DOCUMENT);
  if (document === undefined) throw refused(documentPath, 'it is missing');
  if (!equalBytes(document, encodeGcpDocument(fromHex(registers.uki))))
    throw refused(ukiPath, 'it is not the one that measurement.gcp.cbor names');
  const path = join(folder, 'disk.raw');
  const disk = await openRegular(path);
  if (disk === undefined) throw refused(path, 'it is missing');
  try {
    const start = await bootPartition(disk, path);
    const expected = espOf((await readRegular(ukiPath, MAX_KERNEL_IMAGE)) ?? new Uint8Array());
    const piece = new Uint8Array(PIECE);
    for (let at = 0; at < expected.length; at += PIECE) {
      const { bytesRead } = await disk.read(piece, 0, PIECE, start + at);
      const wanted = expected.subarray(at, at + PIECE);
      if (bytesRead < wanted.length) throw refused(path, `it is cut off at byte ${start + at + bytesRead}`);
      if (!equalBytes(piece.subarray(0, wanted.length), wanted))
        throw refused(path, 'its EFI system partition is not the one that the image was built with');
    }
  } finally {
    await disk.close();
  }
}

/** Where the EFI system partition starts, bytes. */
async function bootPartition(disk: FileHandle, path: string): Promise<number> {
  const table = new Uint8Array(TABLE_BYTES);
  await disk.read(table, 0, TABLE_BYTES, 0);
  try {
    const { partitions } = readGpt(table);
    const esp = partitions.find(({ typeGuid }) => typeGuid === DISK.espType);
    if (esp !== undefined) return Number(esp.firstLba) * SECTOR;
  } catch (cause) {
    throw refused(path, 'its partition table cannot be read', cause);
  }
  throw refused(path, 'it has no EFI system partition');
}

function refused(path: string, why: string, cause?: unknown): OsImageError {
  return new OsImageError(
    'not-an-image',
    `Firmware would not start ${path}: ${why}; build or download the image again`,
    { cause },
  );
}
