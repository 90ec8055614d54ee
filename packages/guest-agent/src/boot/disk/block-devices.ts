import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';

/** A disk or partition as the kernel knows it. */
export interface BlockDevice {
  /** Name below `/dev`. */
  readonly name: string;
  readonly kind: 'disk' | 'partition';
  /** Serial number that the host gave the disk; not measured. */
  readonly serial: string | undefined;
  /** Name in the partition table. */
  readonly partitionName: string | undefined;
  readonly partitionUuid: string | undefined;
  /** The disk of a partition. */
  readonly disk: string | undefined;
  /** Number of a partition in its table, and where it starts, bytes. */
  readonly number: number | undefined;
  readonly start: number;
  readonly readOnly: boolean;
  /** Bytes. */
  readonly size: number;
}

/** Sizes and starts in sysfs are in units of 512 bytes, whatever the device's own sectors are. */
const SYS_SECTOR = 512;
const DISK_NAME = /^(vd[a-z]+|sd[a-z]+|nvme\d+n\d+)(p?\d+)?$/;

/** The disks and partitions of this machine that can hold data; loop, mapper and RAM devices are left out. */
export async function blockDevices(sys = '/sys/class/block'): Promise<BlockDevice[]> {
  const devices: BlockDevice[] = [];
  for (const name of (await readdir(sys)).sort()) {
    const match = DISK_NAME.exec(name);
    if (match === null) continue;
    const text = async (file: string) => (await readFile(join(sys, name, file), 'utf8')).trim();
    const event = new Map((await text('uevent')).split('\n').map((line) => split(line)));
    const isPartition = event.get('DEVTYPE') === 'partition';
    devices.push({
      name,
      kind: isPartition ? 'partition' : 'disk',
      serial: isPartition ? undefined : await serialOf(join(sys, name)),
      partitionName: event.get('PARTNAME'),
      partitionUuid: event.get('PARTUUID')?.toLowerCase(),
      disk: isPartition ? match[1] : undefined,
      number: isPartition ? Number(event.get('PARTN')) : undefined,
      start: isPartition ? Number(await text('start')) * SYS_SECTOR : 0,
      readOnly: (await text('ro')) === '1',
      size: Number(await text('size')) * SYS_SECTOR,
    });
  }
  return devices;
}

/** virtio has the number at the disk, NVMe at its controller. */
async function serialOf(folder: string): Promise<string | undefined> {
  for (const file of ['serial', 'device/serial']) {
    const text = await readFile(join(folder, file), 'utf8').catch(absent);
    if (text !== undefined) return text.trim() || undefined;
  }
  return undefined;
}

function absent(error: NodeJS.ErrnoException): undefined {
  if (error.code !== 'ENOENT') throw error;
}

function split(line: string): [string, string] {
  const at = line.indexOf('=');
  return at < 0 ? [line, ''] : [line.slice(0, at), line.slice(at + 1)];
}
