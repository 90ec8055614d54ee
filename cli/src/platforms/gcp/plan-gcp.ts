import type { Prepared } from '../../project/shared-files.ts';
import type { CheckOptions, Place, PlannedChange } from '../platform.ts';
import { bootImageName } from './boot-image.ts';
import { openGcp } from './gcp-place.ts';
import { findImage } from './made-image.ts';
import { findDataDisk, findInstance } from './own-instance.ts';
import { BOOT_IMAGE, dataDiskName } from './resources.ts';

/** What a deploy would make, change and delete at Google. */
export async function planGcp(
  place: Place,
  prepared: Prepared,
  { recreate, data }: CheckOptions,
): Promise<readonly PlannedChange[]> {
  const gcp = await openGcp(place);
  const { settings, storage } = gcp;
  const { instance, zone, bucket, machineType, dataSize } = settings;
  const image = bootImageName(settings, place.project.config.os_image, prepared.osImageHash);
  const [live, disk, boot, found] = await Promise.all([
    findInstance(gcp),
    findDataDisk(gcp),
    findImage(gcp, image),
    storage.findBucket(bucket).catch(() => null),
  ]);
  const changes: PlannedChange[] = [];
  const add = (action: PlannedChange['action'], what: string, note?: string): void => {
    changes.push({ action, what, ...(note === undefined ? {} : { note }) });
  };
  if (found === undefined) add('make', `bucket gs://${bucket}`);
  add(boot === undefined ? 'make' : 'keep', `image ${image}`);
  const isNew = live === undefined || recreate === true || data === 'delete';
  if (live !== undefined && isNew) add('delete', `instance ${instance}`);
  if (disk !== undefined && data === 'delete')
    add('delete', `disk ${dataDiskName(instance)}`, 'its data is lost');
  if (disk === undefined || data === 'delete')
    add('make', `disk ${dataDiskName(instance)}`, `${dataSize} GB`);
  else if (Number(disk.sizeGb) < dataSize)
    add('change', `disk ${dataDiskName(instance)}`, `${disk.sizeGb} GB to ${dataSize} GB`);
  else add('keep', `disk ${dataDiskName(instance)}`, `${disk.sizeGb} GB`);
  if (isNew) add('make', `instance ${instance}`, `${machineType} in ${zone}`);
  else {
    const isOther = live.labels?.[BOOT_IMAGE] !== image;
    add(
      'change',
      `instance ${instance}`,
      `stopped, new files${isOther ? ' and boot disk' : ''}, started; its external address changes unless it is reserved`,
    );
  }
  return changes;
}
