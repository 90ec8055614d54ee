import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
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
    // Status 1: errors were corrected.
    await mustRun(host, 'e2fsck', ['-f', '-p', device], { good: [0, 1] });
    await mustRun(host, 'resize2fs', [device]);
  }
  await mkdir(mountPoint, { recursive: true, mode: 0o711 });
  await mustRun(host, 'mount', ['-t', 'ext4', '-o', 'noatime,nodev', device, mountPoint]);
  log.info({ mount_point: mountPoint }, 'Data disk is mounted');
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
