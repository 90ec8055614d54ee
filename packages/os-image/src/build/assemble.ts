import { createReadStream } from 'node:fs';
import { type FileHandle, open, stat } from 'node:fs/promises';
import { OsImageError } from '../errors.ts';
import { writeFat32 } from '../formats/fat32.ts';
import { GPT_BACKUP_SECTORS, type Partition, SECTOR, writeGpt } from '../formats/gpt.ts';
import { VERITY_BLOCK, verityTree } from '../formats/verity.ts';
import { DISK } from '../recipe/recipe.ts';

const MIB = 1024 * 1024;
/** Size of the EFI system partition, bytes. */
const ESP_BYTES: number = 64 * MIB;

/** The root file system with its hash tree behind it. */
export interface ProtectedRoot {
  readonly file: string;
  readonly tree: Uint8Array;
  readonly rootHash: Uint8Array;
  /** Size of the file system alone, where the hash tree starts. */
  readonly dataSize: number;
}

/** Makes the hash tree of a squashfs file, which is padded to whole blocks first. */
export async function protectRoot(file: string): Promise<ProtectedRoot> {
  const handle = await open(file, 'r+');
  try {
    const { size } = await handle.stat();
    await handle.truncate(Math.ceil(size / VERITY_BLOCK) * VERITY_BLOCK);
  } finally {
    await handle.close();
  }
  const { tree, rootHash } = await verityTree(createReadStream(file, { highWaterMark: MIB }), {
    salt: new Uint8Array(32),
    uuid: DISK.verityUuid,
  });
  return { file, tree, rootHash, dataSize: (await stat(file)).size };
}

/** The EFI system partition of every disk with this unified kernel image: it has that file and nothing else. */
export function espOf(uki: Uint8Array): Uint8Array {
  return writeFat32({
    size: ESP_BYTES,
    label: DISK.espLabel,
    volumeId: DISK.espVolumeId,
    hiddenSectors: MIB / SECTOR,
    files: [{ path: 'EFI/BOOT/BOOTX64.EFI', data: uki }],
  });
}

/** A whole disk: EFI system partition with the unified kernel image, root partition, both tables. */
export async function writeDisk(path: string, uki: Uint8Array, root: ProtectedRoot): Promise<void> {
  const esp = espOf(uki);
  const espPartition = partition('EFI System Partition', DISK.espType, DISK.espGuid, MIB, ESP_BYTES);
  const rootStart = MIB + ESP_BYTES;
  const rootPartition = rootPartitionAt(rootStart, root);
  await writeParts(path, [espPartition, rootPartition], async (disk) => {
    await disk.write(esp, 0, esp.length, MIB);
    await writeRoot(disk, root, rootStart);
  });
}

/** A disk with the root partition alone, for machines whose kernel is given by the host. */
export async function writeRootDisk(path: string, root: ProtectedRoot): Promise<void> {
  await writeParts(path, [rootPartitionAt(MIB, root)], async (disk) => await writeRoot(disk, root, MIB));
}

async function writeParts(
  path: string,
  partitions: readonly Partition[],
  fill: (disk: FileHandle) => Promise<void>,
): Promise<void> {
  const end = Number(partitions.at(-1)!.lastLba + 1n) * SECTOR;
  // A spare MiB holds the backup table.
  const size = (Math.ceil(end / MIB) + 1) * MIB;
  const { primary, backup } = writeGpt({
    diskGuid: DISK.diskGuid,
    sectors: BigInt(size / SECTOR),
    partitions,
  });
  const disk = await open(path, 'wx', 0o644);
  try {
    await disk.truncate(size);
    await disk.write(primary, 0, primary.length, 0);
    await fill(disk);
    await disk.write(backup, 0, backup.length, size - Number(GPT_BACKUP_SECTORS) * SECTOR);
    await disk.sync();
  } finally {
    await disk.close();
  }
}

function rootPartitionAt(start: number, root: ProtectedRoot): Partition {
  const size = root.dataSize + root.tree.length;
  return partition('dstack-rootfs', DISK.rootType, DISK.rootGuid, start, size);
}

function partition(name: string, typeGuid: string, guid: string, start: number, size: number): Partition {
  const firstLba = BigInt(start / SECTOR);
  return { name, typeGuid, guid, firstLba, lastLba: firstLba + BigInt(Math.ceil(size / SECTOR)) - 1n };
}

async function writeRoot(disk: FileHandle, root: ProtectedRoot, start: number): Promise<void> {
  let at = start;
  for await (const chunk of createReadStream(root.file, { highWaterMark: MIB })) {
    const bytes = chunk as Buffer;
    await disk.write(bytes, 0, bytes.length, at);
    at += bytes.length;
  }
  if (at !== start + root.dataSize)
    throw new OsImageError('build-failed', `${root.file} changed while it was read`);
  await disk.write(root.tree, 0, root.tree.length, at);
}
