import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { GuestError } from '../../errors.ts';
import type { Logger } from '../../log.ts';
import { type MachineHost, mustRun } from './machine-host.ts';

export interface FileSystemOptions {
  readonly host: MachineHost;
  /** The opened disk. */
  readonly device: string;
  readonly mountPoint: string;
  readonly log: Logger;
}

/** Puts an empty ext4 on a new disk. */
export async function makeExt4({ host, device }: FileSystemOptions): Promise<void> {
  await mustRun(host, 'mkfs.ext4', ['-q', '-F', '-E', 'lazy_itable_init=1,lazy_journal_init=1', device]);
}

/** Checks an ext4, grows it to the size of its disk, and mounts it. */
export async function mountExt4(
  { host, device, mountPoint, log }: FileSystemOptions,
  fresh: boolean,
): Promise<void> {
  if (!fresh) {
    await requireRoom(host, device);
    // Status 1: errors were corrected.
    await mustRun(host, 'e2fsck', ['-f', '-p', device], { good: [0, 1] });
    await mustRun(host, 'resize2fs', [device]);
  }
  await mkdir(mountPoint, { recursive: true, mode: 0o711 });
  await mustRun(host, 'mount', ['-t', 'ext4', '-o', 'noatime,nodev', device, mountPoint]);
  log.info({ mount_point: mountPoint }, 'Data disk is mounted');
}

/** Place and size of the ext4 superblock, and what is read of it (Linux, Documentation/filesystems/ext4/super.rst). */
const SUPERBLOCK_AT = 1024;
const SUPERBLOCK_BYTES = 1024;
const EXT4_MAGIC = 0xef53;
const HAS_64BIT = 0x80;

/** Bytes of the file system that a superblock describes; undefined when it is none of ext4. */
export function ext4Bytes(superblock: Uint8Array): bigint | undefined {
  if (superblock.length < SUPERBLOCK_BYTES) return undefined;
  const view = new DataView(superblock.buffer, superblock.byteOffset, superblock.length);
  const blockShift = view.getUint32(24, true);
  if (view.getUint16(56, true) !== EXT4_MAGIC || blockShift > 6) return undefined;
  const high = (view.getUint32(96, true) & HAS_64BIT) === 0 ? 0 : view.getUint32(336, true);
  return ((BigInt(high) << 32n) | BigInt(view.getUint32(4, true))) << BigInt(10 + blockShift);
}

/** A disk grows and never shrinks; one that did would lose data at the first check. */
async function requireRoom(host: MachineHost, device: string): Promise<void> {
  const needs = ext4Bytes(await host.read(device, SUPERBLOCK_AT, SUPERBLOCK_BYTES));
  if (needs === undefined)
    throw new GuestError(
      'disk-refused',
      'The data disk opens with its key, and no ext4 file system is on it',
      {
        expected: 'ext4',
      },
    );
  const has = BigInt((await mustRun(host, 'blockdev', ['--getsize64', device])).trim());
  if (has >= needs) return;
  throw new GuestError(
    'disk-refused',
    `The data disk is smaller than before: its file system needs ${needs} bytes and finds ${has}; give the disk its former size`,
    { expected: String(needs), found: String(has) },
  );
}

/** A swap file of this size on the mounted disk, made new at each boot; 0 bytes for none. */
export async function makeSwap(host: MachineHost, mountPoint: string, bytes: bigint): Promise<void> {
  const file = join(mountPoint, 'swapfile');
  await mustRun(host, 'rm', ['-f', '--', file]);
  if (bytes === 0n) return;
  await mustRun(host, 'fallocate', ['-l', String(bytes), file]);
  await mustRun(host, 'chmod', ['600', file]);
  await mustRun(host, 'mkswap', ['-q', file]);
  await mustRun(host, 'swapon', [file]);
}
