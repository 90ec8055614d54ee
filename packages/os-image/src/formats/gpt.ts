import { crc32 } from 'node:zlib';
import { ByteReader, ByteWriter, equalBytes, isZero, utf8 } from '@dstack-cloud/encoding';
import { OsImageError } from '../errors.ts';
import { guidBytes, guidText } from './guid.ts';

export const SECTOR = 512;
/** Sectors before the first usable one: protective MBR, header, 128 entries of 128 bytes (UEFI 2.10, 5.3). */
const GPT_FIRST_USABLE = 34n;
/** Sectors of the backup table at the end of the disk. */
export const GPT_BACKUP_SECTORS = 33n;

const ENTRIES = 128;
const ENTRY_BYTES = 128;
const HEADER_BYTES = 92;
const SIGNATURE = utf8('EFI PART');

export interface Partition {
  readonly typeGuid: string;
  readonly guid: string;
  /** At most 36 UTF-16 code units. */
  readonly name: string;
  /** First and last sector, both inclusive. */
  readonly firstLba: bigint;
  readonly lastLba: bigint;
}

export interface Gpt {
  readonly diskGuid: string;
  /** Size of the disk, sectors of 512 bytes. */
  readonly sectors: bigint;
  readonly partitions: readonly Partition[];
}

/** The two copies of a partition table: 34 sectors for the start of the disk, 33 for its end. */
export function writeGpt(gpt: Gpt): { primary: Uint8Array; backup: Uint8Array } {
  checkLayout(gpt);
  const entries = writeEntries(gpt.partitions);
  const last = gpt.sectors - 1n;
  const primary = new Uint8Array(Number(GPT_FIRST_USABLE) * SECTOR);
  primary.set(protectiveMbr(gpt.sectors));
  primary.set(header(gpt, entries, 1n, last, 2n), SECTOR);
  primary.set(entries, 2 * SECTOR);
  const backup = new Uint8Array(Number(GPT_BACKUP_SECTORS) * SECTOR);
  backup.set(entries);
  backup.set(header(gpt, entries, last, 1n, gpt.sectors - GPT_BACKUP_SECTORS), entries.length);
  return { primary, backup };
}

/**
 * Reads the primary table from the first 34 sectors of a disk. Both checksums must hold and no partition may leave the
 * usable range or overlap another.
 *
 * @throws OsImageError `format`
 */
export function readGpt(start: Uint8Array): Gpt {
  if (start.length < Number(GPT_FIRST_USABLE) * SECTOR) throw broken('is shorter than 34 sectors');
  const raw = start.slice(SECTOR, SECTOR + HEADER_BYTES);
  const reader = new ByteReader(raw);
  if (!equalBytes(reader.take(8), SIGNATURE)) throw broken('has no signature');
  if (reader.u32le() !== 0x10000 || reader.u32le() !== HEADER_BYTES) throw broken('is of another version');
  const headerCrc = reader.u32le();
  raw.fill(0, 16, 20);
  if (crc32(raw) !== headerCrc) throw broken('header does not match its checksum');
  if (reader.u32le() !== 0 || reader.u64le() !== 1n) throw broken('is not the primary one');
  const backupLba = reader.u64le();
  reader.take(16);
  const diskGuid = guidText(reader.take(16));
  if (reader.u64le() !== 2n || reader.u32le() !== ENTRIES || reader.u32le() !== ENTRY_BYTES)
    throw broken('has another number or size of entries');
  const entries = start.subarray(2 * SECTOR, 2 * SECTOR + ENTRIES * ENTRY_BYTES);
  if (crc32(entries) !== reader.u32le()) throw broken('entries do not match their checksum');
  const partitions: Partition[] = [];
  for (let i = 0; i < ENTRIES; i++) {
    const entry = new ByteReader(entries.subarray(i * ENTRY_BYTES, (i + 1) * ENTRY_BYTES));
    const type = entry.take(16);
    if (isZero(type)) continue;
    const guid = guidText(entry.take(16));
    const [firstLba, lastLba] = [entry.u64le(), entry.u64le()];
    entry.take(8);
    const name = new TextDecoder('utf-16le').decode(entry.rest()).replace(/\0.*$/s, '');
    partitions.push({ typeGuid: guidText(type), guid, name, firstLba, lastLba });
  }
  const gpt = { diskGuid, sectors: backupLba + 1n, partitions };
  checkLayout(gpt);
  return gpt;
}

function checkLayout({ sectors, partitions }: Gpt): void {
  if (partitions.length > ENTRIES) throw broken(`holds ${ENTRIES} partitions, not ${partitions.length}`);
  const lastUsable = sectors - GPT_BACKUP_SECTORS - 1n;
  const sorted = [...partitions].sort((a, b) => (a.firstLba < b.firstLba ? -1 : 1));
  let next = GPT_FIRST_USABLE;
  for (const { name, firstLba, lastLba } of sorted) {
    if (firstLba < next || lastLba < firstLba || lastLba > lastUsable)
      throw broken(`has partition ${JSON.stringify(name)} outside of the disk or over another one`);
    next = lastLba + 1n;
  }
}

/** One entry of type 0xee over the disk, so that older tools do not take it for empty (UEFI 2.10, 5.2.3). */
function protectiveMbr(sectors: bigint): Uint8Array {
  const mbr = new Uint8Array(SECTOR);
  const size = sectors - 1n > 0xffff_ffffn ? 0xffff_ffff : Number(sectors - 1n);
  const entry = new ByteWriter().u32le(0x00020000).u32le(0xffffffee).u32le(1).u32le(size).finish();
  mbr.set(entry, 446);
  mbr.set([0x55, 0xaa], 510);
  return mbr;
}

function writeEntries(partitions: readonly Partition[]): Uint8Array {
  const entries = new Uint8Array(ENTRIES * ENTRY_BYTES);
  partitions.forEach(({ typeGuid, guid, name, firstLba, lastLba }, index) => {
    if (name.length > 36) throw broken(`name ${JSON.stringify(name)} is longer than 36 characters`);
    const entry = new ByteWriter().bytes(guidBytes(typeGuid)).bytes(guidBytes(guid));
    entry.u64le(firstLba).u64le(lastLba).u64le(0n);
    for (let i = 0; i < name.length; i++) entry.u16le(name.charCodeAt(i));
    entries.set(entry.finish(), index * ENTRY_BYTES);
  });
  return entries;
}

function header(gpt: Gpt, entries: Uint8Array, at: bigint, other: bigint, table: bigint): Uint8Array {
  const bytes = new ByteWriter()
    .bytes(SIGNATURE)
    .u32le(0x10000)
    .u32le(HEADER_BYTES)
    .u32le(0)
    .u32le(0)
    .u64le(at)
    .u64le(other)
    .u64le(GPT_FIRST_USABLE)
    .u64le(gpt.sectors - GPT_BACKUP_SECTORS - 1n)
    .bytes(guidBytes(gpt.diskGuid))
    .u64le(table)
    .u32le(ENTRIES)
    .u32le(ENTRY_BYTES)
    .u32le(crc32(entries))
    .finish();
  new DataView(bytes.buffer).setUint32(16, crc32(bytes), true);
  return bytes;
}

function broken(what: string): OsImageError {
  return new OsImageError('format', `The partition table ${what}`);
}
