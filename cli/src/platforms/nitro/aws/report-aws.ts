import type { Instance } from '@aws-sdk/client-ec2';
import type { GlobalConfig } from '../../../config/global-config.ts';
import type { Context } from '../../../context.ts';
import { messageOf } from '../../../errors.ts';
import { type ProjectState, UPDATING } from '../../../project/state-file.ts';
import type { ListedMachine, MachineReport, Place } from '../../platform.ts';
import { type AwsPlace, openAws, openSession } from './aws-place.ts';
import { regionOf } from './aws-settings.ts';
import { driftOf, parseEnclaves, type RunningEnclave } from './enclaves.ts';
import { DESCRIBE_SCRIPT } from './host-script.ts';
import { runOnHost } from './host-shell.ts';
import { findInstance, instancesWith } from './own-instance.ts';
import { statusOf, withInstance } from './state-of.ts';
import { APP_ID, MADE_BY, tagOf } from './tags.ts';

/** State of the project's parent instance and of its enclave now. */
export async function reportAws(place: Place, state: ProjectState): Promise<MachineReport> {
  const aws = await openAws(place);
  return await reportInstance(aws, state, await findInstance(aws));
}

export async function reportInstance(
  aws: AwsPlace,
  state: ProjectState,
  live: Instance | undefined,
): Promise<MachineReport> {
  const parent = live === undefined ? 'NOT_FOUND' : statusOf(live);
  const shown =
    live === undefined
      ? { ...state, external_ip: '', internal_ip: '' }
      : withInstance(aws.place, state, live);
  const drift: string[] = [];
  let enclave: RunningEnclave | undefined;
  let status = parent;
  if (live !== undefined && parent === 'RUNNING') {
    try {
      enclave = parseEnclaves(await runOnHost(aws, live, 'status', DESCRIBE_SCRIPT));
      status = enclave?.state ?? 'STOPPED';
      if (enclave !== undefined) drift.push(...driftOf(enclave, state.registers));
    } catch (error) {
      status = 'UNKNOWN';
      drift.push(`The parent instance does not say what runs: ${messageOf(error)}`);
    }
  }
  const rows: [string, string][] = [
    ['Instance:', shown.instance_name],
    ['Account:', aws.account],
    ['Region:', aws.settings.region],
    ['Zone:', shown.zone],
    ['Parent:', live === undefined ? 'none' : `${live.InstanceId} ${parent}`],
    ['Enclave:', enclave === undefined ? 'none' : `${enclave.id} ${enclave.state}`],
    ['Status:', status],
    ['External IP:', shown.external_ip || 'N/A'],
    ['Internal IP:', shown.internal_ip || 'N/A'],
    ['Created:', state.created_at],
    ['Updated:', state.updated_at],
  ];
  if (state.status === UPDATING)
    rows.push(['Update:', 'under way, or interrupted: then deploy goes on with it']);
  return { status, simulated: false, error: null, urls: {}, instanceId: null, drift, rows };
}

/** Parent instances of this program in the region. */
export async function listAws(context: Context, config: GlobalConfig): Promise<ListedMachine[]> {
  const region = regionOf(context.env, config.nitro, '');
  const session = await openSession(context, region);
  const found = await instancesWith(session, { Name: `tag:${MADE_BY.Key}`, Values: [MADE_BY.Value] });
  return found.map((one) => ({
    name: tagOf(one.Tags, 'Name') ?? one.InstanceId ?? '',
    status: statusOf(one),
    simulated: false,
    app_id: tagOf(one.Tags, APP_ID) ?? '',
    urls: one.PublicIpAddress === undefined ? {} : { app: one.PublicIpAddress },
    created_at: one.LaunchTime?.toISOString() ?? '',
    project: `${session.account}/${one.Placement?.AvailabilityZone ?? region}`,
    error: null,
  }));
}
