import { mkdir, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { GuestError } from '../errors.ts';
import type { Logger } from '../log.ts';
import { type MachineHost, mustRun } from './disk/machine-host.ts';

const SERIAL = 'images';
const MAX_IMAGES = 256;

/**
 * Loads the container images that the host gave on a disk with the serial number `images`: a squashfs of `docker load`
 * tarballs. Without the disk nothing happens.
 *
 * @throws GuestError
 */
export async function loadImages(host: MachineHost, mountPoint: string, log: Logger): Promise<void> {
  const disks = (await host.blockDevices()).filter(
    ({ kind, serial }) => kind === 'disk' && serial === SERIAL,
  );
  const [disk] = disks;
  if (disk === undefined) return;
  if (disks.length > 1)
    throw new GuestError('start-failed', `${disks.length} disks have the serial number ${SERIAL}`);
  await mkdir(mountPoint, { recursive: true, mode: 0o700 });
  const options = ['-t', 'squashfs', '-o', 'ro,nosuid,nodev,noexec'];
  await mustRun(host, 'mount', [...options, `/dev/${disk.name}`, mountPoint]);
  try {
    const entries = await readdir(mountPoint, { withFileTypes: true });
    const files = entries.filter((one) => one.isFile() && one.name.endsWith('.tar')).map(({ name }) => name);
    if (files.length > MAX_IMAGES)
      throw new GuestError('start-failed', `The disk of images holds more than ${MAX_IMAGES}`);
    for (const name of files.sort()) {
      await mustRun(host, 'docker', ['load', '--quiet', '--input', join(mountPoint, name)]);
      log.info({ file: name }, 'Container image is loaded');
    }
  } finally {
    await mustRun(host, 'umount', ['--', mountPoint]);
  }
}
