import { randomUUID } from 'node:crypto';
import { resolve } from 'node:path';
import {
  type CreateOptions,
  checkCvm,
  createCvm,
  isAlive,
  removeCvm,
  startCvm,
  stopCvm,
  updateCvm,
} from '@dstack-cloud/vmm';
import { expandHome } from '../../context.ts';
import type { Prepared } from '../../project/shared-files.ts';
import { type ProjectState, readProjectState, writeProjectState } from '../../project/state-file.ts';
import type { Place } from '../platform.ts';
import { explainBoot } from './explain-boot.ts';
import { machineDirectory, machineIfThere, projectMachine } from './paths.ts';

/** Makes or updates the project's machine and starts it; `state.json` follows every step. */
export async function deployLocal(
  place: Place,
  prepared: Prepared,
  options: { recreate: boolean },
): Promise<ProjectState> {
  const { context, config, project } = place;
  const before = await readProjectState(project.directory);
  const known = before?.machine_dir ? projectMachine(place, before) : undefined;
  const isThere = known !== undefined && (await machineIfThere(known)) !== undefined;
  const dir = isThere ? known : machineDirectory(context, config, randomUUID());
  const wanted = createOptions(place, prepared, dir);
  if (isThere) {
    await checkCvm(wanted);
    if (await stopCvm(dir)) context.info('Stopped the running machine');
    if (options.recreate) await removeCvm(dir);
  }
  if (isThere && !options.recreate) await updateCvm(wanted);
  else await createCvm(wanted);
  const now = context.now().toISOString();
  const state: ProjectState = {
    ...before,
    schema: 1,
    platform: 'local',
    instance_name: wanted.name,
    project: '',
    zone: 'local',
    external_ip: '127.0.0.1',
    internal_ip: '127.0.0.1',
    status: 'STARTING',
    created_at: before?.status === 'REMOVED' ? now : (before?.created_at ?? now),
    updated_at: now,
    boot_image: project.config.os_image,
    app_id: prepared.appId,
    instance_id: prepared.instanceId ?? '',
    compose_hash: prepared.composeHash,
    os_image_hash: prepared.osImageHash,
    machine_dir: dir,
    urls: {},
    revisions: [
      ...(before?.revisions ?? []),
      { compose_hash: prepared.composeHash, os_image_hash: prepared.osImageHash, time: now },
    ],
  };
  await writeProjectState(project.directory, state);
  return await boot(place, state);
}

/** Starts the machine and records how that went. */
export async function boot(place: Place, state: ProjectState): Promise<ProjectState> {
  const { context, project } = place;
  const stamp = (): string => context.now().toISOString();
  context.info('Booting');
  try {
    const started = await startCvm(state.machine_dir, {
      signal: context.signal,
      onProgress: (text) => context.info(`  ${text}`),
    });
    const next = {
      ...state,
      status: 'RUNNING',
      updated_at: stamp(),
      urls: started.state.urls,
      instance_id: started.state.instance_id ?? state.instance_id,
    };
    await writeProjectState(project.directory, next);
    return next;
  } catch (error) {
    const status = await machineIfThere(state.machine_dir);
    const alive = status?.state.supervisor != null && isAlive(status.state.supervisor);
    await writeProjectState(project.directory, {
      ...state,
      status: alive ? 'RUNNING' : 'FAILED',
      updated_at: stamp(),
      urls: alive ? (status?.state.urls ?? {}) : {},
    });
    throw explainBoot(error, state);
  }
}

function createOptions(place: Place, prepared: Prepared, dir: string): CreateOptions {
  const { context, config, project } = place;
  const { local_config: local, name } = project.config;
  const rootCa = config.attestation.root_ca.tdx;
  return {
    dir,
    name: local.instance_name || `dstack-${name}`,
    appId: prepared.appId,
    image: project.config.os_image,
    shared: prepared.files,
    seedFile: resolve(expandHome(context, config.local.seed_file)),
    rootCaTdx: rootCa === undefined ? null : resolve(expandHome(context, rootCa)),
    pccsUrl: config.services.pccs_url || null,
    ports: [{ host: local.port, guest: local.container_port }],
    agentPort: local.agent_port,
    engine: local.engine ?? config.local.engine,
    env: config.local.env,
    owner: config.local.owner ?? null,
    project: project.directory,
  };
}
