import { CliError } from '../../errors.ts';
import type { GcpDisk, GcpInstance } from './api/compute-api.ts';
import { explainGcp } from './api/gcp-error.ts';
import type { GcpPlace } from './gcp-place.ts';
import { dataDiskName, isOwn, type Labelled } from './resources.ts';

/** The project's instance; undefined when there is none of that name. @throws CliError `not_owner` for another's */
export async function findInstance(gcp: GcpPlace): Promise<GcpInstance | undefined> {
  const { zone, instance } = gcp.settings;
  const found = await gcp.compute
    .find<GcpInstance>('zones', zone, 'instances', instance)
    .catch((error: unknown) => {
      throw explainGcp(`Instance ${instance}`, error);
    });
  if (found !== undefined) requireOwn(gcp, `instance ${instance}`, found);
  return found;
}

/** The project's data disk, which outlives its instances. */
export async function findDataDisk(gcp: GcpPlace): Promise<GcpDisk | undefined> {
  const { zone, instance } = gcp.settings;
  const name = dataDiskName(instance);
  const found = await gcp.compute.find<GcpDisk>('zones', zone, 'disks', name);
  if (found !== undefined) requireOwn(gcp, `disk ${name}`, found);
  return found;
}

/** Nothing is changed or removed that the labels do not call this project's. @throws CliError `not_owner` */
function requireOwn({ settings, place }: GcpPlace, what: string, found: Labelled): void {
  if (isOwn(settings, found)) return;
  throw new CliError('not_owner', `There is another ${what} in project ${settings.project}`, {
    expected: `label dstack-owner=${settings.owner}`,
    found:
      found.labels?.['dstack-owner'] ??
      'no such label: it was made by something else, or by an older version',
    hint: `Set another gcp_config.instance_name in ${place.project.path}, or remove that ${what} yourself`,
  });
}
