import { removeCvm, stopCvm } from '@dstack-cloud/vmm';
import { type ProjectState, writeProjectState } from '../../project/state-file.ts';
import type { Place } from '../platform.ts';
import { isSameFolder } from './find-local.ts';
import { machineIfThere, projectMachine } from './paths.ts';

/** Removes the machine that a replacement left over. */
export async function removeOther(place: Place, state: ProjectState): Promise<ProjectState> {
  const { other_machine_dir: other, ...rest } = state;
  if (other === undefined) return state;
  const dir = projectMachine(place, { ...state, machine_dir: other });
  const owner = (await machineIfThere(dir))?.manifest?.project;
  // A state that came with a copy could name anybody's.
  if (owner != null && isSameFolder(owner, place.project.directory)) {
    await stopCvm(dir);
    await removeCvm(dir);
  }
  await writeProjectState(place.project.directory, rest);
  return rest;
}
