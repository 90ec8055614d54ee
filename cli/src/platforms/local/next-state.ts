import type { CreateOptions } from '@dstack-cloud/vmm';
import { isEnclave, registersOf } from '../../enclave/prepare-enclave.ts';
import type { Prepared } from '../../project/shared-files.ts';
import type { ProjectState } from '../../project/state-file.ts';
import type { Place } from '../platform.ts';

/** `state.json` for a new revision that is to start. */
export function nextState(
  { context, project }: Place,
  prepared: Prepared,
  before: ProjectState | undefined,
  wanted: CreateOptions,
): ProjectState {
  const now = context.now().toISOString();
  return {
    ...before,
    schema: 1,
    platform: project.config.platform,
    instance_name: wanted.name,
    project: '',
    zone: 'local',
    external_ip: '127.0.0.1',
    internal_ip: '127.0.0.1',
    status: 'STARTING',
    created_at: before?.status === 'REMOVED' ? now : (before?.created_at ?? now),
    updated_at: now,
    boot_image: isEnclave(prepared) ? 'enclave.eif' : project.config.os_image,
    ...(isEnclave(prepared) ? { registers: registersOf(prepared) } : {}),
    app_id: prepared.appId,
    instance_id: prepared.instanceId ?? '',
    compose_hash: prepared.composeHash,
    os_image_hash: prepared.osImageHash,
    machine_dir: wanted.dir,
    urls: {},
    revisions: [
      ...(before?.revisions ?? []),
      { compose_hash: prepared.composeHash, os_image_hash: prepared.osImageHash, time: now },
    ],
  };
}
