import type { Instance } from '@aws-sdk/client-ec2';
import { type PreparedNitro, registersOf } from '../../../enclave/prepare-enclave.ts';
import type { ProjectState } from '../../../project/state-file.ts';
import type { Place } from '../../platform.ts';
import type { AwsPlace } from './aws-place.ts';
import { APP_ID, tagOf } from './tags.ts';

/** `state.json` of a revision that is to run. */
export function nextState(
  { place, settings, account }: AwsPlace,
  prepared: PreparedNitro,
  before: ProjectState | undefined,
): ProjectState {
  const now = place.context.now().toISOString();
  const { composeHash: compose_hash, osImageHash: os_image_hash, appId: app_id } = prepared;
  return {
    ...before,
    ...{ schema: 1, platform: 'nitro', machine_dir: '' },
    ...{ instance_name: settings.instance, project: account, region: settings.region, zone: '' },
    ...{ external_ip: '', internal_ip: '', status: 'STARTING', urls: {} },
    created_at: before === undefined || before.status === 'REMOVED' ? now : before.created_at,
    updated_at: now,
    boot_image: 'enclave.eif',
    ...{ app_id, compose_hash, os_image_hash, instance_id: '', registers: registersOf(prepared) },
    bucket: settings.bucket,
    revisions: [...(before?.revisions ?? []), { compose_hash, os_image_hash, time: now }],
  };
}

/** The same with what AWS says of the parent instance. */
export function withInstance(
  { context }: Pick<Place, 'context'>,
  state: ProjectState,
  live: Instance,
): ProjectState {
  return {
    ...state,
    zone: live.Placement?.AvailabilityZone ?? '',
    external_ip: live.PublicIpAddress ?? '',
    internal_ip: live.PrivateIpAddress ?? '',
    parent_instance: live.InstanceId,
    updated_at: context.now().toISOString(),
  };
}

/** A deployment of which no `state.json` is left. */
export function stateOfInstance({ place, settings, account }: AwsPlace, live: Instance): ProjectState {
  const created = live.LaunchTime?.toISOString() ?? '';
  return withInstance(
    place,
    {
      ...{ schema: 1, platform: 'nitro', machine_dir: '', boot_image: 'enclave.eif' },
      ...{ instance_name: settings.instance, project: account, region: settings.region, zone: '' },
      ...{ external_ip: '', internal_ip: '', status: statusOf(live), urls: {} },
      ...{ created_at: created, updated_at: created, compose_hash: '', os_image_hash: '', instance_id: '' },
      app_id: tagOf(live.Tags, APP_ID) ?? '',
      bucket: settings.bucket,
      revisions: [],
    },
    live,
  );
}

/** AWS's states in this program's words. */
export function statusOf({ State }: Instance): string {
  const state = (State?.Name ?? '').toUpperCase();
  return state === 'PENDING' ? 'STARTING' : state;
}
