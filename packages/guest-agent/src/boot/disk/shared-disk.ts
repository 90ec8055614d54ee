import { mkdir } from 'node:fs/promises';
import { GuestError } from '../../errors.ts';
import type { BlockDevice } from './block-devices.ts';
import { type MachineHost, mustRun } from './machine-host.ts';

const SERIAL = 'shared';
const LABEL = 'DSTACKSHR';
/** Where a FAT32 volume has its label (Microsoft FAT specification 1.03, section 3.3). */
const FAT_LABEL_AT = 71;

/** Whether a disk carries the files that the host hands over. */
export async function isSharedDisk(
  { name, serial }: Pick<BlockDevice, 'name' | 'serial'>,
  host: Pick<MachineHost, 'read'>,
): Promise<boolean> {
  if (serial === SERIAL) return true;
  const label = await host.read(`/dev/${name}`, FAT_LABEL_AT, 11);
  return new TextDecoder('latin1').decode(label).trimEnd() === LABEL;
}

/**
 * Mounts the disk with the host's files where only its regular files can be read: no devices, no programs, nothing
 * written.
 *
 * @throws GuestError `host-shared-invalid` when there is none or more than one
 */
export async function mountSharedDisk(host: MachineHost, mountPoint: string): Promise<void> {
  const found: BlockDevice[] = [];
  for (const one of await host.blockDevices())
    if (one.kind === 'disk' && (await isSharedDisk(one, host))) found.push(one);
  const [disk] = found;
  if (disk === undefined || found.length > 1)
    throw new GuestError(
      'host-shared-invalid',
      found.length === 0
        ? `No disk has the host's files: attach a FAT32 disk with the label ${LABEL}`
        : `${found.length} disks could have the host's files: ${found.map(({ name }) => name).join(', ')}`,
      { expected: 'one', found: String(found.length) },
    );
  await mkdir(mountPoint, { recursive: true, mode: 0o700 });
  const options = 'ro,nosuid,nodev,noexec,utf8=1,shortname=mixed,fmask=0177,dmask=0077,errors=remount-ro';
  await mustRun(host, 'mount', ['-t', 'vfat', '-o', options, `/dev/${disk.name}`, mountPoint]);
}

/** Takes the disk away again, once everything of it was copied. */
export async function unmountSharedDisk(host: MachineHost, mountPoint: string): Promise<void> {
  await mustRun(host, 'umount', ['--', mountPoint]);
}
