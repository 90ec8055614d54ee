import type { Prepared } from '../../project/shared-files.ts';
import type { ProjectState } from '../../project/state-file.ts';
import type { Place } from '../platform.ts';
import type { GcpInstance } from './api/compute-api.ts';
import type { GcpSettings } from './gcp-settings.ts';
import { BOOT_IMAGE, DEVICE, dataDiskName, nameOf } from './resources.ts';

/** `state.json` of a revision that is to run. */
export function nextState(
  { context }: Place,
  settings: GcpSettings,
  prepared: Prepared,
  before: ProjectState | undefined,
): ProjectState {
  const now = context.now().toISOString();
  return {
    ...before,
    schema: 1,
    platform: 'gcp',
    instance_name: settings.instance,
    project: settings.project,
    zone: settings.zone,
    external_ip: '',
    internal_ip: '',
    status: 'STARTING',
    created_at: before?.created_at ?? now,
    updated_at: now,
    boot_image: '',
    app_id: prepared.appId,
    instance_id: prepared.instanceId ?? '',
    compose_hash: prepared.composeHash,
    os_image_hash: prepared.osImageHash,
    machine_dir: '',
    urls: {},
    data_image: dataDiskName(settings.instance),
    bucket: settings.bucket,
    revisions: [
      ...(before?.revisions ?? []),
      { compose_hash: prepared.composeHash, os_image_hash: prepared.osImageHash, time: now },
    ],
  };
}

/** The same with what Google says of the instance. */
export function withInstance(
  { context }: Pick<Place, 'context'>,
  state: ProjectState,
  live: GcpInstance,
): ProjectState {
  const [nic] = live.networkInterfaces ?? [];
  const external = nic?.accessConfigs?.[0]?.natIP ?? '';
  const shared = live.disks?.find(({ deviceName }) => deviceName === DEVICE.shared);
  return {
    ...state,
    external_ip: external,
    internal_ip: nic?.networkIP ?? '',
    status: statusOf(live),
    updated_at: context.now().toISOString(),
    boot_image: live.labels?.[BOOT_IMAGE] ?? state.boot_image,
    shared_image: nameOf(shared?.source),
    urls: {},
  };
}

/** A machine without an instance of that name. */
export function stateOfInstance(place: Place, settings: GcpSettings, live: GcpInstance): ProjectState {
  const created = live.creationTimestamp ?? '';
  return withInstance(
    place,
    {
      ...{
        schema: 1,
        platform: 'gcp',
        instance_name: live.name,
        project: settings.project,
        zone: settings.zone,
      },
      ...{
        external_ip: '',
        internal_ip: '',
        status: '',
        created_at: created,
        updated_at: created,
        boot_image: '',
      },
      ...{
        app_id: '',
        instance_id: '',
        compose_hash: '',
        os_image_hash: '',
        machine_dir: '',
        urls: {},
        revisions: [],
      },
      ...{ data_image: dataDiskName(settings.instance), bucket: settings.bucket },
    },
    live,
  );
}

/** Google's word for a stopped machine is TERMINATED. */
export function statusOf({ status = '' }: GcpInstance): string {
  return status === 'TERMINATED' ? 'STOPPED' : status;
}
