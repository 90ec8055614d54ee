import { checkCvm, closeUpdate, createCvm, stopCvm, updateCvm } from '@dstack-cloud/vmm';
import type { Prepared } from '../../project/shared-files.ts';
import { type ProjectState, UPDATING, writeProjectState } from '../../project/state-file.ts';
import type { DeployOptions, Place } from '../platform.ts';
import { boot, startMachine } from './boot.ts';
import { createOptions, newDirectory } from './create-options.ts';
import { goBack } from './go-back.ts';
import { nextState } from './next-state.ts';
import { machineIfThere, projectMachine } from './paths.ts';
import { replaceMachine } from './replace-machine.ts';
import { settleUpdate } from './settle-update.ts';

/**
 * Makes or updates the project's machine and starts it. An update that fails leaves what was before, running if it ran;
 * after a kill at any moment `state.json` says what the machine is, or is to become again.
 */
export async function deployLocal(
  place: Place,
  prepared: Prepared,
  options: DeployOptions,
): Promise<ProjectState> {
  const before = options.before === undefined ? undefined : await settleUpdate(place, options.before);
  const dir = before === undefined ? undefined : projectMachine(place, before);
  if (before === undefined || dir === undefined || (await machineIfThere(dir)) === undefined)
    return await create(place, prepared, before);
  if (options.data === 'delete') return await replaceMachine(place, prepared, before, dir);
  return await update(place, prepared, before, dir, options.recreate);
}

async function create(
  place: Place,
  prepared: Prepared,
  before: ProjectState | undefined,
): Promise<ProjectState> {
  // A folder that `state.json` names and that is not there is one that a killed deploy was about to make.
  const dir = before === undefined ? newDirectory(place) : projectMachine(place, before);
  const wanted = await createOptions(place, prepared, dir);
  await checkCvm(wanted);
  const state = { ...nextState(place, prepared, before, wanted), status: 'STARTING' };
  // First, so that there is never a machine that nobody knows.
  await writeProjectState(place.project.directory, state);
  await createCvm(wanted);
  return await boot(place, state, 'deploy');
}

async function update(
  place: Place,
  prepared: Prepared,
  before: ProjectState,
  dir: string,
  fresh: boolean,
): Promise<ProjectState> {
  const { context, project } = place;
  const wanted = await createOptions(place, prepared, dir);
  await checkCvm(wanted);
  const wasRunning = (await machineIfThere(dir))?.state.status === 'running';
  await writeProjectState(project.directory, { ...before, status: UPDATING });
  const next = nextState(place, prepared, before, wanted);
  try {
    if (await stopCvm(dir)) context.info('Stopped the running machine');
    await updateCvm(wanted, { open: true, fresh });
    // What never ran is nothing to go back to.
    if (NEVER_RAN.includes(before.status)) {
      await closeUpdate(dir, 'confirm');
      return await boot(place, next, 'deploy');
    }
    const state = await startMachine(place, next);
    await writeProjectState(project.directory, state);
    await closeUpdate(dir, 'confirm');
    return state;
  } catch (error) {
    if (NEVER_RAN.includes(before.status)) throw error;
    throw await goBack(place, before, dir, wasRunning, error);
  }
}

const NEVER_RAN = ['STARTING', 'FAILED'];
