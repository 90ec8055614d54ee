import { execFile } from 'node:child_process';
import { open } from 'node:fs/promises';
import { promisify } from 'node:util';
import { crc32 } from 'node:zlib';

const SECTOR = 512;
/** UEFI specification 2.10, section 5.3. */
const HEADER_BYTES = 92;
const ENTRY_BYTES = 128;
const TABLE_BYTES = 34 * SECTOR;
/** Type of an EFI system partition, as it lies on disk. */
const ESP_TYPE = Buffer.from('28732ac11ff8d211ba4b00a0c93ec93b', 'hex');
const UKI = '::/EFI/BOOT/BOOTX64.EFI';
const MAX_UKI = 256 * 1024 * 1024;

/** What firmware finds on a disk. */
export interface BootDisk {
  /** UEFI_GPT_DATA (TCG PC Client Platform Firmware Profile section 10.2.3): header, number of partitions, partitions. */
  readonly gpt: Uint8Array;
  /** The program that is started where no boot option is stored. */
  readonly uki: Uint8Array;
}

/** Reads the disk as firmware does. @throws Error when nothing can be booted from it */
export async function readBootDisk(path: string): Promise<BootDisk> {
  const table = Buffer.alloc(TABLE_BYTES);
  const disk = await open(path, 'r');
  try {
    await disk.read(table, 0, TABLE_BYTES, 0);
  } finally {
    await disk.close();
  }
  const header = table.subarray(SECTOR, SECTOR + HEADER_BYTES);
  const entries = table.subarray(2 * SECTOR);
  if (header.toString('latin1', 0, 8) !== 'EFI PART') throw new Error('no partition table');
  const unsummed = Buffer.from(header).fill(0, 16, 20);
  if (crc32(unsummed) !== header.readUInt32LE(16) || crc32(entries) !== header.readUInt32LE(88))
    throw new Error('the partition table does not match its checksums');
  const used: Buffer[] = [];
  for (let at = 0; at < entries.length; at += ENTRY_BYTES) {
    const entry = entries.subarray(at, at + ENTRY_BYTES);
    if (entry.some((byte, i) => i < 16 && byte !== 0)) used.push(entry);
  }
  const esp = used.find((entry) => entry.subarray(0, 16).equals(ESP_TYPE));
  if (esp === undefined) throw new Error('no EFI system partition');
  const start = Number(esp.readBigUInt64LE(32)) * SECTOR;
  const count = Buffer.alloc(8);
  count.writeUInt32LE(used.length);
  const { stdout } = await promisify(execFile)('mtype', ['-i', `${path}@@${start}`, UKI], {
    encoding: 'buffer',
    maxBuffer: MAX_UKI,
  });
  return { gpt: new Uint8Array(Buffer.concat([header, count, ...used])), uki: new Uint8Array(stdout) };
}
