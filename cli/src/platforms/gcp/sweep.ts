import type { GcpDisk, GcpImage, GcpInstance } from './api/compute-api.ts';
import type { GcpPlace } from './gcp-place.ts';
import { dataDiskName, isOwn, nameOf, OWNER } from './resources.ts';

/**
 * Removes what runs that were interrupted left, and what the machine does not need any more: images of this project that no
 * machine boots, disks that are attached nowhere, uploads. By labels alone, so that nothing else is touched.
 */
export async function sweep(gcp: GcpPlace, instance: GcpInstance | undefined): Promise<void> {
  const { settings, compute, place } = gcp;
  const { owner, zone } = settings;
  const filter = `labels.${OWNER}=${owner}`;
  const prefix = `${settings.instance}-`;
  const attached = new Set((instance?.disks ?? []).map(({ source }) => nameOf(source)));
  for (const disk of await compute.list<GcpDisk>(filter, 'zones', zone, 'disks')) {
    const keeps = attached.has(disk.name) || disk.name === dataDiskName(settings.instance);
    if (keeps || !isOwn(settings, disk)) continue;
    if (await compute.remove('zones', zone, 'disks', disk.name))
      place.context.debug(`Removed disk ${disk.name}`);
  }
  for (const image of await compute.list<GcpImage>(filter, 'global', 'images')) {
    if (!image.name.startsWith(prefix) || !isOwn(settings, image) || isBootable(image)) continue;
    if (await compute.remove('global', 'images', image.name))
      place.context.debug(`Removed image ${image.name}`);
  }
  await sweepObjects(gcp);
}

/** Boot images stay: another deploy, or another project, boots them. */
export function isBootable({ guestOsFeatures }: GcpImage): boolean {
  return guestOsFeatures?.some(({ type }) => type === 'TDX_CAPABLE') === true;
}

/** Uploads of this project that became no image, or were not removed after. */
export async function sweepObjects({ settings, storage }: GcpPlace, prefix?: string): Promise<void> {
  const { bucket, owner, instance } = settings;
  if ((await storage.findBucket(bucket)) === undefined) return;
  for (const { name, metadata } of await storage.listObjects(bucket, prefix ?? `${instance}-`))
    if (metadata?.[OWNER] === owner) await storage.removeObject(bucket, name);
}
