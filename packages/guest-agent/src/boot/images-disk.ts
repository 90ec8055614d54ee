import { GuestError } from '../errors.ts';
import type { MachineHost } from './disk/machine-host.ts';

const SERIAL = 'images';

/** The disk with container images that the host gave, by its serial number; undefined for none. @throws GuestError */
export async function imagesDisk(host: Pick<MachineHost, 'blockDevices'>): Promise<string | undefined> {
  const disks = (await host.blockDevices()).filter(
    ({ kind, serial }) => kind === 'disk' && serial === SERIAL,
  );
  if (disks.length > 1)
    throw new GuestError('image-refused', `${disks.length} disks have the serial number ${SERIAL}`, {
      expected: 'one or none',
      found: disks.map(({ name }) => name).join(', '),
    });
  return disks[0] === undefined ? undefined : `/dev/${disks[0].name}`;
}
