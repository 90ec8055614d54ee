import { ByteWriter, concatBytes, fromHex, toHex, utf8 } from '@dstack-cloud/encoding';
import { sha256, sha384 } from './hash.ts';

/**
 * The files of a small OS image as a TD on bare metal measures them (docs/protocol/images.md section 1). Firmware and
 * kernel have the headers that the measurement depends on, around bytes that follow from the name: nothing can boot
 * them.
 */
export interface SimulatedImageFiles {
  readonly firmware: Uint8Array;
  readonly kernel: Uint8Array;
  readonly initrd: Uint8Array;
  readonly commandLine: string;
  /** All files of the directory, `sha256sum.txt` among them. */
  readonly directory: ReadonlyMap<string, Uint8Array>;
  /** 32 bytes: SHA-256 of `sha256sum.txt`. */
  readonly osImageHash: Uint8Array;
}

/** A section of the firmware: contents at `offset` are loaded to `address`. */
export interface FirmwareSection {
  readonly type: number;
  readonly offset: number;
  readonly rawSize: number;
  readonly address: number;
  readonly memorySize: number;
  /** Bit 0: measured; bit 1: added after the start. */
  readonly attributes: number;
}

const FIRMWARE_BYTES = 0x8000;
const VOLUMES = 0xffff8000;
const TABLE_END = FIRMWARE_BYTES - 32;
const DESCRIPTOR = 0x7000;
const KERNEL_HEADERS = 0x400;
const KERNEL_BYTES = 0x3000;
const INITRD_BYTES = 5000;

/** Boot and configuration volume, and the memory that the firmware starts with. */
export const FIRMWARE_SECTIONS: readonly FirmwareSection[] = [
  { type: 0, offset: 0x1000, rawSize: 0x7000, address: VOLUMES + 0x1000, memorySize: 0x7000, attributes: 1 },
  { type: 1, offset: 0, rawSize: 0x1000, address: VOLUMES, memorySize: 0x1000, attributes: 0 },
  { type: 3, offset: 0, rawSize: 0, address: 0x810000, memorySize: 0x10000, attributes: 0 },
  { type: 3, offset: 0, rawSize: 0, address: 0x80b000, memorySize: 0x2000, attributes: 0 },
  { type: 2, offset: 0, rawSize: 0, address: 0x809000, memorySize: 0x2000, attributes: 0 },
  { type: 3, offset: 0, rawSize: 0, address: 0x800000, memorySize: 0x6000, attributes: 0 },
  { type: 4, offset: 0, rawSize: 0, address: 0x100000, memorySize: 0x3000, attributes: 2 },
];

/** @param name any text; another name gives another image */
export function simulatedImageFiles(name: string): SimulatedImageFiles {
  const commandLine = `console=ttyS0 dstack.image=${name}`;
  const firmware = simulatedFirmware(name);
  const kernel = simulatedKernel(name);
  const initrd = bytesFrom(`${name}: initrd`, INITRD_BYTES);
  const metadata = {
    bios: 'ovmf.fd',
    kernel: 'bzImage',
    cmdline: commandLine,
    initrd: 'initramfs.cpio.gz',
    rootfs: 'rootfs.img.parted.verity',
    version: '0.6.0',
    git_revision: '0'.repeat(40),
    shared_ro: true,
    is_dev: false,
  };
  const directory = new Map([
    ['ovmf.fd', firmware],
    ['bzImage', kernel],
    ['initramfs.cpio.gz', initrd],
    ['metadata.json', utf8(JSON.stringify(metadata))],
  ]);
  const sums = [...directory].map(([file, bytes]) => `${toHex(sha256(bytes))}  ${file}\n`);
  const checksumFile = utf8(sums.join(''));
  directory.set('sha256sum.txt', checksumFile);
  return { firmware, kernel, initrd, commandLine, directory, osImageHash: sha256(checksumFile) };
}

/**
 * OVMF's end: the table of GUIDs before the reset vector, with the way to the TDX metadata (docs/protocol/images.md
 * section 4.1).
 */
function simulatedFirmware(name: string): Uint8Array {
  const file = bytesFrom(`${name}: firmware`, FIRMWARE_BYTES);
  const other = new ByteWriter().bytes(new Uint8Array(8)).u16le(26).bytes(new Uint8Array(16).fill(0x77));
  const metadata = new ByteWriter()
    .u32le(FIRMWARE_BYTES - DESCRIPTOR)
    .u16le(22)
    .bytes(fromHex('35657ae44a989847865e4685a7bf8ec2'));
  const entries = concatBytes(metadata.finish(), other.finish());
  const footer = new ByteWriter()
    .u16le(entries.length + 18)
    .bytes(fromHex('de82b596b21ff745baeaa366c55a082d'));
  const table = concatBytes(entries, footer.finish());
  file.set(table, TABLE_END - table.length);
  const descriptor = new ByteWriter()
    .bytes(utf8('TDVF'))
    .u32le(16 + 32 * FIRMWARE_SECTIONS.length)
    .u32le(1)
    .u32le(FIRMWARE_SECTIONS.length);
  for (const section of FIRMWARE_SECTIONS) {
    descriptor
      .u32le(section.offset)
      .u32le(section.rawSize)
      .u64le(BigInt(section.address))
      .u64le(BigInt(section.memorySize))
      .u32le(section.type)
      .u32le(section.attributes);
  }
  file.set(descriptor.finish(), DESCRIPTOR);
  return file;
}

/** A bzImage: PE headers before the setup header of boot protocol 2.15, then one section. */
function simulatedKernel(name: string): Uint8Array {
  const file = bytesFrom(`${name}: kernel`, KERNEL_BYTES);
  file.fill(0, 0, KERNEL_HEADERS);
  const view = new DataView(file.buffer);
  const u16 = (at: number, value: number): void => view.setUint16(at, value, true);
  const u32 = (at: number, value: number): void => view.setUint32(at, value, true);
  file.set(utf8('MZ'));
  u32(0x3c, 0x40);
  file.set(utf8('PE'), 0x40);
  u16(0x44, 0x8664);
  u16(0x46, 1); // Sections.
  u16(0x54, 0xa0); // Size of the optional header.
  u16(0x58, 0x20b);
  u32(0x58 + 60, KERNEL_HEADERS);
  u32(0x58 + 64, 0xfeedbeef); // CheckSum.
  u32(0x58 + 108, 6); // Data directories.
  file.set(utf8('.text'), 0xf8);
  u32(0xf8 + 8, KERNEL_BYTES - KERNEL_HEADERS);
  u32(0xf8 + 12, 0x1000);
  u32(0xf8 + 16, KERNEL_BYTES - KERNEL_HEADERS);
  u32(0xf8 + 20, KERNEL_HEADERS);
  file.set(utf8('HdrS'), 0x202);
  u16(0x206, 0x20f);
  file[0x211] = 1; // Loaded high.
  u32(0x22c, 0x7fffffff); // The highest place of an initrd,
  u16(0x236, 0x7f); // which this flag overrules.
  return file;
}

/** Bytes that follow from a text. */
function bytesFrom(seed: string, length: number): Uint8Array {
  const out = new Uint8Array(length);
  for (let at = 0; at < length; at += 48) {
    out.set(sha384(`simulated ${seed} ${at}`).subarray(0, Math.min(48, length - at)), at);
  }
  return out;
}
