import type { GlobalConfig } from '../../config/global-config.ts';
import type { Context } from '../../context.ts';
import { CliError } from '../../errors.ts';
import { type ProjectState, UPDATING } from '../../project/state-file.ts';
import type { ListedMachine, MachineReport, Place } from '../platform.ts';
import { agentUrl } from './agent-url.ts';
import { ComputeApi, type GcpInstance } from './api/compute-api.ts';
import { explainGcp } from './api/gcp-error.ts';
import { openSession } from './api/gcp-session.ts';
import { type GcpPlace, openGcp } from './gcp-place.ts';
import { findInstance } from './own-instance.ts';
import { BOOT_IMAGE, MADE_BY, nameOf } from './resources.ts';
import { statusOf, withInstance } from './state-of.ts';

/** State of the project's instance now. */
export async function reportGcp(place: Place, state: ProjectState): Promise<MachineReport> {
  const gcp = await openGcp(place);
  return await reportInstance(gcp, state, await findInstance(gcp));
}

export async function reportInstance(
  gcp: GcpPlace,
  state: ProjectState,
  live: GcpInstance | undefined,
): Promise<MachineReport> {
  const shown =
    live === undefined
      ? { ...state, status: 'NOT_FOUND', external_ip: '', internal_ip: '' }
      : withInstance(gcp.place, state, live);
  const agent = live === undefined ? undefined : await agentUrl(gcp, live);
  const rows: [string, string][] = [
    ['Instance:', shown.instance_name],
    ['Project:', shown.project],
    ['Zone:', shown.zone],
    ['Status:', shown.status],
    ['External IP:', shown.external_ip || 'N/A'],
    ['Internal IP:', shown.internal_ip || 'N/A'],
    ['Boot Image:', shown.boot_image],
    ['Created:', state.created_at],
    ['Updated:', state.updated_at],
  ];
  if (state.status === UPDATING)
    rows.push(['Update:', 'under way, or interrupted: then deploy goes on with it']);
  return {
    status: shown.status,
    simulated: false,
    error: null,
    urls: agent === undefined ? {} : { agent },
    instanceId: null,
    rows,
  };
}

/** Machines of this program in all zones of a project, also those that an older version did not label. */
export async function listGcp(
  context: Context,
  config: GlobalConfig,
  project: string | undefined,
): Promise<ListedMachine[]> {
  const id = project ?? (config.gcp['project'] as string | undefined) ?? '';
  if (id === '')
    throw new CliError('bad_config', 'No project of Google Cloud is named', {
      hint: 'Pass --project ID, or set gcp.project with dstack-cloud config-edit',
    });
  const compute = new ComputeApi(await openSession(context), id);
  const found = new Map<string, GcpInstance>();
  try {
    for (const filter of [`labels.${MADE_BY}=1`, 'name eq "dstack-.*"'])
      for (const one of await compute.instances(filter)) found.set(`${nameOf(one.zone)}/${one.name}`, one);
  } catch (error) {
    throw explainGcp(`Instances of ${id}`, error);
  }
  return [...found.values()].map((one) => ({
    name: one.name,
    status: statusOf(one),
    simulated: false,
    app_id: '',
    urls: addressOf(one),
    created_at: one.creationTimestamp ?? '',
    project: `${id}/${nameOf(one.zone)}`,
    error: one.labels?.[BOOT_IMAGE] === undefined ? 'made by something else, or by an older version' : null,
  }));
}

function addressOf({ networkInterfaces }: GcpInstance): Record<string, string> {
  const address = networkInterfaces?.[0]?.accessConfigs?.[0]?.natIP;
  return address === undefined || address === '' ? {} : { app: address };
}
