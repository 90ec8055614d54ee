import { removeCvm, stopCvm } from '@dstack-cloud/vmm';
import { CliError, messageOf } from '../../errors.ts';
import { type ProjectState, writeProjectState } from '../../project/state-file.ts';
import type { MachineReport, Place } from '../platform.ts';
import { boot } from './boot.ts';
import { machineIfThere, projectMachine } from './paths.ts';
import { removeOther } from './remove-other.ts';
import { reportLocal } from './report-local.ts';
import { requireOwner } from './require-owner.ts';
import { settleUpdate } from './settle-update.ts';

/** Stops the machine; false when it did not run. */
export async function stopLocal(place: Place, state: ProjectState): Promise<boolean> {
  const dir = projectMachine(place, state);
  await requireOwner(place, dir);
  // Also when its folder is gone: programs of it may still run.
  const stopped = await stopCvm(dir);
  await record(place, () => settleUpdate(place, { ...state, urls: {} }), 'STOPPED');
  return stopped;
}

/** Starts a stopped machine as it is; leaves a running one alone. */
export async function startLocal(place: Place, given: ProjectState): Promise<MachineReport> {
  const dir = projectMachine(place, given);
  await requireOwner(place, dir);
  if ((await machineIfThere(dir)) === undefined)
    throw new CliError('not_deployed', `The machine ${given.instance_name} does not exist any more`, {
      hint: 'Run dstack-cloud deploy',
    });
  const state = await settleUpdate(place, given);
  const now = await reportLocal(place, state);
  if (now.status !== 'RUNNING') return await reportLocal(place, await boot(place, state, 'start'));
  place.context.info(`${state.instance_name} runs already`);
  return now;
}

/** Removes the machine with all its files, whatever is left of it; its disk is gone. */
export async function removeLocal(
  place: Place,
  state: ProjectState,
  options: { force: boolean },
): Promise<void> {
  const dir = projectMachine(place, state);
  await requireOwner(place, dir);
  if (options.force) await stopCvm(dir);
  if ((await machineIfThere(dir)) !== undefined) await removeCvm(dir, { force: options.force });
  const removed = { ...state, urls: {}, external_ip: '', internal_ip: '' };
  await record(place, () => removeOther(place, removed), 'REMOVED');
}

/**
 * Writes what happened to `state.json`. On a full disk that cannot be done, and what happened is no less true: whoever asks
 * the platform sees it.
 */
async function record(place: Place, rest: () => Promise<ProjectState>, status: string): Promise<void> {
  try {
    const state = await rest();
    const updated_at = place.context.now().toISOString();
    await writeProjectState(place.project.directory, { ...state, status, updated_at });
  } catch (error) {
    place.context.warn(`state.json does not say so yet: ${messageOf(error)}`);
  }
}
