import { GuestError } from '../../errors.ts';
import type { BlockDevice } from './block-devices.ts';
import type { MachineHost } from './machine-host.ts';
import { isSharedDisk } from './shared-disk.ts';

const DATA_NAME = 'dstack-data';
const ROOT_NAME = 'dstack-rootfs';
const DATA_SERIAL = 'data';
const MIN_BYTES = 64 * 1024 * 1024;

/** What `dstack.data_device=` on the measured command line names. */
const BY_ARGUMENT =
  /^(?:PARTLABEL=(?<label>[A-Za-z0-9._-]{1,36})|PARTUUID=(?<uuid>[0-9a-fA-F-]{36})|\/dev\/(?<path>[A-Za-z0-9/._-]{1,128}))$/;

/** The device for the data: a partition that is there, or a disk of its own that may still be empty. */
export interface DataDevice {
  readonly path: string;
  /** The disk of a partition; undefined for a whole disk. */
  readonly disk: string | undefined;
}

/**
 * Chooses the data device: the one that the command line names, else the partition `dstack-data`, else the disk with
 * the serial number `data`, else the one disk that is nothing else (not the root's, not the shared files', not
 * read-only).
 *
 * @throws GuestError `disk-refused` when there is none or more than one
 */
export async function chooseDataDevice(
  devices: readonly BlockDevice[],
  host: Pick<MachineHost, 'read'>,
  argument: string | undefined,
): Promise<DataDevice> {
  if (argument !== undefined) return byArgument(devices, argument);
  const named = devices.filter((one) => one.partitionName === DATA_NAME);
  if (named.length > 0) return only(named, `are named ${DATA_NAME}`);
  const bySerial = devices.filter((one) => one.kind === 'disk' && one.serial === DATA_SERIAL);
  if (bySerial.length > 0) return only(bySerial, `have the serial number ${DATA_SERIAL}`);
  const used = new Set(devices.flatMap(({ disk, name }) => (disk === undefined ? [] : [disk, name])));
  const candidates: BlockDevice[] = [];
  for (const one of devices) {
    if (one.kind !== 'disk' || one.readOnly || one.size < MIN_BYTES || used.has(one.name)) continue;
    if (!(await isSharedDisk(one, host))) candidates.push(one);
  }
  return only(candidates, 'could be the data disk');
}

/** Partitions of the image itself are never data, whatever the command line says. */
function byArgument(devices: readonly BlockDevice[], argument: string): DataDevice {
  const { label, uuid, path } = BY_ARGUMENT.exec(argument)?.groups ?? {};
  if (path !== undefined) {
    const known = devices.find(({ name }) => name === path);
    if (known !== undefined) return only([known], '');
    return { path: `/dev/${path}`, disk: undefined };
  }
  const found = devices.filter(
    (one) =>
      (label !== undefined && one.partitionName === label) ||
      (uuid !== undefined && one.partitionUuid === uuid.toLowerCase()),
  );
  return only(found, `match dstack.data_device=${argument}`);
}

function only(found: readonly BlockDevice[], what: string): DataDevice {
  const [device] = found;
  if (device === undefined || found.length > 1) {
    const names = found.map(({ name }) => name).join(', ');
    throw new GuestError(
      'disk-refused',
      found.length === 0
        ? 'The machine has no disk for data; attach an empty one'
        : `${found.length} disks ${what}: ${names}`,
      { expected: 'one', found: String(found.length) },
    );
  }
  if (device.partitionName === ROOT_NAME || device.readOnly)
    throw new GuestError(
      'disk-refused',
      `${device.name} cannot hold data: it is ${device.readOnly ? 'read-only' : 'the root'}`,
    );
  return { path: `/dev/${device.name}`, disk: device.disk };
}
