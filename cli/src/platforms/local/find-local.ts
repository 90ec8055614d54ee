import { realpathSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { composeHash, HOST_SHARED_LIMITS, readFileBounded } from '@dstack-cloud/app';
import { toHex } from '@dstack-cloud/encoding';
import { type CvmStatus, listCvms } from '@dstack-cloud/vmm';
import type { ProjectState } from '../../project/state-file.ts';
import type { Place } from '../platform.ts';
import { runPath } from './paths.ts';

/** The machine whose own manifest says that it belongs to this project; of several the one that runs, else the newest. */
export async function findLocal({ context, config, project }: Place): Promise<ProjectState | undefined> {
  const machines = await listCvms(runPath(context, config));
  const mine = machines.filter(
    ({ manifest }) => manifest?.project != null && isSameFolder(manifest.project, project.directory),
  );
  for (const { dir, state } of machines.filter(({ manifest }) => manifest === undefined))
    context.warn(`The machine in ${dir} may be of this project too, which cannot be read: ${state.error}`);
  const machine = mine.find(({ state }) => state.supervisor !== null) ?? mine.at(-1);
  if (machine === undefined) return undefined;
  for (const { dir } of mine.filter((other) => other !== machine))
    context.warn(`Another machine of this project lies in ${dir}`);
  return await stateOf(machine);
}

/** Whether two paths lead to one folder. */
export function isSameFolder(one: string, other: string): boolean {
  return real(one) === real(other);
}

async function stateOf({ dir, name, manifest, state }: CvmStatus): Promise<ProjectState> {
  const created = new Date(manifest?.created_at_ms ?? 0).toISOString();
  return {
    schema: 1,
    platform: manifest?.driver === 'enclave' ? 'nitro' : 'local',
    instance_name: name,
    project: '',
    zone: 'local',
    external_ip: '127.0.0.1',
    internal_ip: '127.0.0.1',
    status: state.status.toUpperCase(),
    created_at: created,
    updated_at: created,
    boot_image: manifest?.image ?? '',
    app_id: manifest?.app_id ?? '',
    instance_id: state.instance_id ?? '',
    compose_hash: manifest?.driver === 'enclave' ? manifest.image : await hashOf(dir),
    os_image_hash: manifest?.driver === 'enclave' ? manifest.image : '',
    machine_dir: dir,
    urls: state.urls,
    revisions: [],
  };
}

/** What the machine was given; empty when that cannot be read. */
async function hashOf(dir: string): Promise<string> {
  try {
    const path = join(dir, 'shared/app-compose.json');
    return toHex(composeHash(await readFileBounded(path, HOST_SHARED_LIMITS['app-compose.json'])));
  } catch {
    return '';
  }
}

function real(path: string): string {
  try {
    return realpathSync(path);
  } catch {
    return resolve(path);
  }
}
