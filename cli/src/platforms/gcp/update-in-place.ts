import type { GcpAttachedDisk, GcpInstance } from './api/compute-api.ts';
import { explainGcp } from './api/gcp-error.ts';
import type { GcpPlace } from './gcp-place.ts';
import { dataDisk, diskBody } from './instance-body.ts';
import { freshName } from './made-image.ts';
import { BOOT_IMAGE, DEVICE, dataDiskName, nameOf } from './resources.ts';

/**
 * Gives a machine new files, and another OS image when that changed; its data disk, its name and its firewall rules stay.
 * New disks are made while it still runs. Whatever an interrupted update left attached or detached is put right.
 */
export async function updateInPlace(
  gcp: GcpPlace,
  live: GcpInstance,
  bootImage: string,
  sharedImage: string,
): Promise<void> {
  const { settings, compute, place } = gcp;
  const { zone, instance, bootDiskSize } = settings;
  const where = ['zones', zone, 'instances', instance];
  const disks = ['zones', zone, 'disks'];
  try {
    await compute.run('POST', disks, diskBody(settings, sharedImage, sharedImage, 1));
    const of = (device: string): GcpAttachedDisk | undefined =>
      live.disks?.find(({ deviceName }) => deviceName === device);
    const isSameImage = live.labels?.[BOOT_IMAGE] === bootImage && of(DEVICE.boot) !== undefined;
    const bootDisk = isSameImage ? undefined : freshName(`${instance}-boot`);
    if (bootDisk !== undefined)
      await compute.run('POST', disks, diskBody(settings, bootDisk, bootImage, bootDiskSize));
    if (live.status !== 'TERMINATED') {
      place.context.info('Stopping the machine');
      await compute.run('POST', [...where, 'stop']);
    }
    const detach = async (device: string): Promise<void> => {
      const disk = of(device);
      if (disk !== undefined)
        await compute.run('POST', [...where, 'detachDisk'], undefined, { deviceName: device });
    };
    const attach = async (body: object): Promise<void> =>
      await compute.run('POST', [...where, 'attachDisk'], body);
    const source = (name: string): string => `projects/${settings.project}/zones/${zone}/disks/${name}`;
    if (bootDisk !== undefined) {
      await detach(DEVICE.boot);
      await attach({
        deviceName: DEVICE.boot,
        boot: true,
        autoDelete: true,
        interface: 'NVME',
        source: source(bootDisk),
      });
      // After the disk: what the label says is then true.
      await compute.run('POST', [...where, 'setLabels'], {
        labels: { ...live.labels, [BOOT_IMAGE]: bootImage },
        labelFingerprint: live.labelFingerprint,
      });
    }
    await detach(DEVICE.shared);
    const hasData = live.disks?.some((disk) => nameOf(disk.source) === dataDiskName(instance)) === true;
    if (!hasData) await attach(dataDisk(settings));
    await attach({
      deviceName: DEVICE.shared,
      boot: false,
      autoDelete: true,
      interface: 'NVME',
      source: source(sharedImage),
    });
    place.context.info('Starting the machine');
    await compute.run('POST', [...where, 'start']);
  } catch (error) {
    throw explainGcp(`Update of ${instance}`, error);
  }
}
