import { type ProjectState, writeProjectState } from '../../project/state-file.ts';
import type { Place } from '../platform.ts';
import type { GcpFirewall, GcpImage } from './api/compute-api.ts';
import { explainGcp, isConflict } from './api/gcp-error.ts';
import { removeInstance } from './deploy-gcp.ts';
import { rulesOf } from './firewall.ts';
import { type GcpPlace, openGcp } from './gcp-place.ts';
import { findDataDisk, findInstance } from './own-instance.ts';
import { BOOT_IMAGE, dataDiskName, isOwn, OWNER } from './resources.ts';
import { isBootable, sweep, sweepObjects } from './sweep.ts';

export interface RemoveGcpOptions {
  /** Also the data disk, firewall rules, boot image and bucket that this project made. */
  readonly all?: boolean;
  readonly keepImages?: boolean;
}

/** Removes the instance and what only it needs; the data disk and the firewall rules go with `--all`. */
export async function removeGcp(place: Place, state: ProjectState, options: RemoveGcpOptions): Promise<void> {
  const gcp = await openGcp(place);
  const { settings } = gcp;
  const { context } = place;
  try {
    const live = await findInstance(gcp);
    if (live !== undefined) await removeInstance(gcp, live);
    if (options.keepImages !== true) await sweep(gcp, undefined);
    if (options.all === true) await removeAll(gcp);
    else if ((await findDataDisk(gcp)) !== undefined)
      context.info(
        `Kept data disk ${dataDiskName(settings.instance)}, which costs money: dstack-cloud remove --all deletes it`,
      );
  } catch (error) {
    throw explainGcp(`Removal of ${settings.instance}`, error);
  }
  // With a disk left the project has something to remove still.
  const now = context.now().toISOString();
  await writeProjectState(place.project.directory, {
    ...state,
    ...{ status: 'REMOVED', external_ip: '', internal_ip: '', urls: {}, updated_at: now },
  });
}

/** Exactly what bears this project's mark. */
async function removeAll(gcp: GcpPlace): Promise<void> {
  const { settings, compute, storage, place } = gcp;
  const { instance, zone, bucket, owner } = settings;
  if ((await findDataDisk(gcp)) !== undefined)
    await compute.remove('zones', zone, 'disks', dataDiskName(instance));
  for (const rule of await rulesOf<GcpFirewall>(compute, instance))
    await compute.remove('global', 'firewalls', rule.name);
  for (const image of await compute.list<GcpImage>(`labels.${OWNER}=${owner}`, 'global', 'images')) {
    if (!isOwn(settings, image) || !isBootable(image)) continue;
    const users = await compute.instances(`labels.${BOOT_IMAGE}=${image.name}`);
    if (users.length === 0) await compute.remove('global', 'images', image.name);
    else
      place.context.info(
        `Kept boot image ${image.name}: ${users.map(({ name }) => name).join(', ')} was made from it`,
      );
  }
  const found = await storage.findBucket(bucket).catch(() => undefined);
  if (found === undefined) return;
  await sweepObjects(gcp, '');
  if (!isOwn(settings, found)) return;
  try {
    await storage.removeBucket(bucket);
  } catch (error) {
    if (!isConflict(error)) throw error;
    place.context.info(`Kept bucket gs://${bucket}: others have objects in it`);
  }
}
