import { closeUpdate, hasOpenUpdate, stopCvm } from '@dstack-cloud/vmm';
import { type ProjectState, UPDATING, writeProjectState } from '../../project/state-file.ts';
import type { Place } from '../platform.ts';
import { machineIfThere, projectMachine } from './paths.ts';
import { removeOther } from './remove-other.ts';

/**
 * Ends an update whose `deploy` was killed: `state.json` says whether the new revision came up. If not, the machine becomes
 * again what `state.json` says, stopped.
 */
export async function settleUpdate(place: Place, given: ProjectState): Promise<ProjectState> {
  const state = await removeOther(place, given);
  const dir = projectMachine(place, state);
  const machine = await machineIfThere(dir);
  if (machine === undefined) return state;
  if (state.status !== UPDATING) {
    await closeUpdate(dir, 'confirm');
    return state;
  }
  let status = machine.state.status.toUpperCase();
  if (hasOpenUpdate(dir)) {
    await stopCvm(dir);
    await closeUpdate(dir, 'undo');
    status = 'STOPPED';
    place.context.info(
      `An earlier deploy was interrupted: ${state.instance_name} is again at compose hash ${state.compose_hash}, stopped`,
    );
  } else await closeUpdate(dir, 'confirm');
  const settled = { ...state, status, updated_at: place.context.now().toISOString() };
  await writeProjectState(place.project.directory, settled);
  return settled;
}
