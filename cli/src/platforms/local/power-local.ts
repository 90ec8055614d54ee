import { removeCvm, stopCvm } from '@dstack-cloud/vmm';
import { CliError } from '../../errors.ts';
import { type ProjectState, writeProjectState } from '../../project/state-file.ts';
import type { MachineReport, Place } from '../platform.ts';
import { boot } from './deploy-local.ts';
import { machineIfThere, projectMachine } from './paths.ts';
import { reportLocal } from './report-local.ts';

/** Stops the machine; false when it did not run. */
export async function stopLocal(place: Place, state: ProjectState): Promise<boolean> {
  // Also when its folder is gone: programs of it may still run.
  const stopped = await stopCvm(projectMachine(place, state));
  await record(place, { ...state, status: 'STOPPED', urls: {} });
  return stopped;
}

/** Starts a stopped machine as it is; leaves a running one alone. */
export async function startLocal(place: Place, state: ProjectState): Promise<MachineReport> {
  if ((await machineIfThere(projectMachine(place, state))) === undefined)
    throw new CliError('not_deployed', `The machine ${state.instance_name} does not exist any more`, {
      hint: 'Run dstack-cloud deploy',
    });
  const now = await reportLocal(place, state);
  if (now.status !== 'RUNNING') return await reportLocal(place, await boot(place, state));
  place.context.info(`${state.instance_name} runs already`);
  return now;
}

/** Removes the machine with all its files; its disk is gone. */
export async function removeLocal(
  place: Place,
  state: ProjectState,
  options: { force: boolean },
): Promise<void> {
  const dir = projectMachine(place, state);
  if (options.force) await stopCvm(dir);
  if ((await machineIfThere(dir)) !== undefined) await removeCvm(dir);
  await record(place, { ...state, status: 'REMOVED', urls: {}, external_ip: '', internal_ip: '' });
}

async function record(place: Place, state: ProjectState): Promise<void> {
  const updated_at = place.context.now().toISOString();
  await writeProjectState(place.project.directory, { ...state, updated_at });
}
