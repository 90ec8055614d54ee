import { CliError } from '../../errors.ts';
import { keepRevision } from '../../project/revisions.ts';
import type { Prepared } from '../../project/shared-files.ts';
import { type ProjectState, UPDATING, writeProjectState } from '../../project/state-file.ts';
import type { DeployOptions, Place } from '../platform.ts';
import type { GcpDisk, GcpInstance } from './api/compute-api.ts';
import { explainGcp } from './api/gcp-error.ts';
import { ensureBootImage } from './boot-image.ts';
import { ensureBucket } from './bucket.ts';
import { dataArchive, sharedArchive } from './disks/made-disks.ts';
import { type GcpPlace, openGcp } from './gcp-place.ts';
import { diskBody, instanceBody } from './instance-body.ts';
import { freshName, makeImage } from './made-image.ts';
import { findDataDisk, findInstance } from './own-instance.ts';
import { dataDiskName } from './resources.ts';
import { simulatedRoots } from './simulated-roots.ts';
import { nextState, withInstance } from './state-of.ts';
import { sweep } from './sweep.ts';
import { updateInPlace } from './update-in-place.ts';
import { watchBoot } from './watch-boot.ts';

/**
 * Makes the machine, or makes it what the project is now. Each step looks first at what is there, so that a run that was
 * interrupted is gone on with; everything that can be made beside the running machine is made before it is stopped.
 */
export async function deployGcp(
  place: Place,
  prepared: Prepared,
  options: DeployOptions,
): Promise<ProjectState> {
  const gcp = await openGcp(place);
  const { settings, compute } = gcp;
  const { context, project } = place;
  const { instance, zone } = settings;
  context.info('=== GCP TDX VM Deployment ===');
  for (const [label, value] of [
    ['Project:', settings.project],
    ['Zone:', zone],
    ['Instance:', instance],
    ['GCS Bucket:', `gs://${settings.bucket}`],
  ] as const)
    context.info(`${label.padEnd(12)}${value}`);
  const roots = await simulatedRoots(place);
  let live = await findInstance(gcp);
  const next = nextState(place, settings, prepared, options.before);
  // First, so that what is made from here on is looked for.
  await writeProjectState(
    project.directory,
    options.before === undefined ? next : { ...options.before, status: UPDATING },
  );
  await ensureBucket(gcp);
  const bootImage = await ensureBootImage(gcp, prepared, options.forceBootImage === true);
  const replaces = live !== undefined && (options.recreate || options.data === 'delete');
  const sharedImage = freshName(`${instance}-shared`);
  context.info('Making the shared disk');
  await makeImage(gcp, {
    name: sharedImage,
    features: ['GVNIC'],
    description: `Files of ${instance}`,
    content: () => sharedArchive(prepared.files, roots),
  });
  if (live === undefined || replaces) {
    if (live !== undefined) await removeInstance(gcp, live);
    if (options.data === 'delete') await compute.remove('zones', zone, 'disks', dataDiskName(instance));
    await ensureDataDisk(gcp);
    // Left by a machine whose making was interrupted: nothing of it is attached.
    await sweepDisks(gcp);
    context.info(`Making instance ${instance}`);
    try {
      await compute.run('POST', ['zones', zone, 'instances'], instanceBody(settings, bootImage, sharedImage));
    } catch (error) {
      await sweep(gcp, undefined);
      throw explainGcp(`Instance ${instance}`, error);
    }
  } else {
    const disk = await findDataDisk(gcp);
    if (disk !== undefined) await growDataDisk(gcp, disk);
    await updateInPlace(gcp, live, bootImage, sharedImage);
  }
  live = await findInstance(gcp);
  if (live === undefined)
    throw new CliError('cloud_refused', `Instance ${instance} is gone again`, {
      hint: 'Run dstack-cloud deploy again',
    });
  const state = withInstance(place, { ...next, boot_image: bootImage }, live);
  await writeProjectState(project.directory, state);
  await keepRevision(project, prepared);
  await sweep(gcp, live);
  await watchBoot(gcp, state, options.wait !== false);
  context.info('=== Deployment Complete ===');
  return state;
}

/** The data disk is made once, and outlives the machine. */
async function ensureDataDisk(gcp: GcpPlace): Promise<void> {
  const { place, settings, compute } = gcp;
  const { instance, zone, dataSize } = settings;
  const known = await findDataDisk(gcp);
  if (known !== undefined) {
    place.context.info(`Keeping data disk ${known.name}`);
    return await growDataDisk(gcp, known);
  }
  place.context.info('Making the data disk');
  const image = freshName(`${instance}-data`);
  await makeImage(gcp, {
    name: image,
    features: ['GVNIC'],
    description: `Empty data disk of ${instance}`,
    content: dataArchive,
  });
  await compute
    .run('POST', ['zones', zone, 'disks'], diskBody(settings, dataDiskName(instance), image, dataSize))
    .catch((error: unknown) => {
      throw explainGcp(`Disk ${dataDiskName(instance)}`, error);
    });
}

/** A data disk grows with `gcp_config.data_size`, and never shrinks; the guest uses the room at its next boot. */
async function growDataDisk({ place, settings, compute }: GcpPlace, disk: GcpDisk): Promise<void> {
  const { zone, dataSize } = settings;
  const size = Number(disk.sizeGb);
  if (size > dataSize)
    place.context.warn(`The data disk keeps its ${disk.sizeGb} GB; gcp_config.data_size is ${dataSize}`);
  if (size >= dataSize) return;
  place.context.info(`Making the data disk larger: ${dataSize} GB instead of ${disk.sizeGb} GB`);
  const where = ['zones', zone, 'disks', disk.name, 'resize'];
  await compute.run('POST', where, { sizeGb: String(dataSize) }).catch((error: unknown) => {
    throw explainGcp(`Disk ${disk.name}`, error);
  });
}

/** Disks without a machine would be in the way of a new one of the same name. */
async function sweepDisks({ settings, compute }: GcpPlace): Promise<void> {
  await compute.remove('zones', settings.zone, 'disks', settings.instance);
}

/** Deletes the instance; its data disk stays, whoever attached it. */
export async function removeInstance(
  { place, settings, compute }: GcpPlace,
  live: GcpInstance,
): Promise<void> {
  const { instance, zone } = settings;
  const where = ['zones', zone, 'instances', instance];
  for (const { source, deviceName, autoDelete } of live.disks ?? [])
    if (autoDelete === true && deviceName !== undefined && source?.endsWith(`/${dataDiskName(instance)}`))
      await compute.run('POST', [...where, 'setDiskAutoDelete'], undefined, {
        autoDelete: 'false',
        deviceName,
      });
  place.context.info(`Deleting instance ${instance}`);
  await compute.remove(...where);
}
