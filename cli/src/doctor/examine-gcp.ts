import { CliError } from '../errors.ts';
import { explainGcp } from '../platforms/gcp/api/gcp-error.ts';
import { bootDiskFile } from '../platforms/gcp/boot-image.ts';
import { hasBucket } from '../platforms/gcp/bucket.ts';
import { type GcpPlace, openGcp } from '../platforms/gcp/gcp-place.ts';
import { findInstance } from '../platforms/gcp/own-instance.ts';
import type { Place } from '../platforms/platform.ts';
import { prepareShared } from '../project/shared-files.ts';
import { Examination, type Finding } from './examination.ts';
import { examineKeys } from './examine-keys.ts';

/** What a deploy on Google Cloud needs. */
export async function examineGcp(place: Place): Promise<Finding[]> {
  const examination = new Examination(explainGcp);
  const { look, open } = examination;
  await look('OS image', async () => {
    const { path } = await bootDiskFile(place);
    const { osImageHash } = await prepareShared(place.context, place.config, place.project);
    return `${path}, os-image-hash ${osImageHash}`;
  });
  let gcp: GcpPlace | undefined;
  const hasAccess = await look('credentials', async () => {
    gcp = await openGcp(place);
    await gcp.compute.find();
    return 'a token was given';
  });
  if (hasAccess && gcp !== undefined) await examineCloud(gcp, look);
  else
    for (const name of ['project', 'zone', 'quota', 'bucket', 'instance'])
      open(name, 'not looked at: no access');
  await examineKeys(place, examination);
  return examination.findings;
}

async function examineCloud(gcp: GcpPlace, look: Examination['look']): Promise<void> {
  const { settings, compute } = gcp;
  const { project, zone, region, machineType, bucket, instance } = settings;
  await look('project', async () => {
    if ((await compute.find()) === undefined) throw new CliError('cloud_refused', `no project ${project}`);
    return `${project}; Compute Engine answers`;
  });
  await look('zone', async () => {
    if ((await compute.find('zones', zone, 'machineTypes', machineType)) !== undefined)
      return `${zone} has ${machineType}`;
    throw new CliError('refused', `${zone} has no ${machineType}`, {
      hint: `Set gcp_config.zone to one of: ${(await zonesWith(gcp)).join(', ') || 'none in this region'}`,
    });
  });
  await look('quota', async () => {
    const found = await compute.find<{ quotas?: { metric?: string; limit?: number; usage?: number }[] }>(
      'regions',
      region,
    );
    const quota = found?.quotas?.find(({ metric }) => metric === 'C3_CPUS');
    if (quota === undefined) return 'C3_CPUS is not listed; the deploy will tell';
    const { limit = 0, usage = 0 } = quota;
    const wanted = Number(machineType.split('-').at(-1));
    const text = `C3_CPUS in ${region}: ${usage} of ${limit} used, ${wanted} wanted`;
    const runs = (await compute.find('zones', zone, 'instances', instance)) !== undefined;
    if (runs || usage + wanted <= limit) return text;
    throw new CliError('cloud_refused', text, { hint: 'Ask for more in the console (IAM & Admin, Quotas)' });
  });
  await look('bucket', async () => {
    return (await hasBucket(gcp)) ? `gs://${bucket}` : `gs://${bucket} is not there yet; deploy makes it`;
  });
  await look('instance', async () => {
    const live = await findInstance(gcp);
    return live === undefined ? `${instance} is not there yet` : `${instance}: ${live.status}`;
  });
}

/** Zones of the region that have the machine type. */
async function zonesWith({ compute, settings }: GcpPlace): Promise<string[]> {
  const zones = await compute.list<{ name: string }>(undefined, 'zones');
  const near = zones.filter(({ name }) => name.startsWith(`${settings.region}-`));
  const found = await Promise.all(
    near.map(
      async ({ name }) =>
        (await compute.find('zones', name, 'machineTypes', settings.machineType)) !== undefined,
    ),
  );
  return near.filter((_, i) => found[i]).map(({ name }) => name);
}
