import { checkCvm, createCvm, stopCvm } from '@dstack-cloud/vmm';
import type { Prepared } from '../../project/shared-files.ts';
import {
  type ProjectState,
  readProjectState,
  UPDATING,
  writeProjectState,
} from '../../project/state-file.ts';
import type { Place } from '../platform.ts';
import { startMachine } from './boot.ts';
import { createOptions, newDirectory } from './create-options.ts';
import { goBack } from './go-back.ts';
import { nextState } from './next-state.ts';
import { machineIfThere } from './paths.ts';
import { removeOther } from './remove-other.ts';

/** Another machine with a disk of its own; the old one is removed when the new one runs, and runs again when it does not. */
export async function replaceMachine(
  place: Place,
  prepared: Prepared,
  before: ProjectState,
  old: string,
): Promise<ProjectState> {
  const { context, project } = place;
  await checkCvm(await createOptions(place, prepared, old));
  const wasRunning = (await machineIfThere(old))?.state.status === 'running';
  const dir = newDirectory(place);
  const wanted = await createOptions(place, prepared, dir);
  // Both are on record from here on: whichever `machine_dir` does not name is removed, also after a kill.
  const both = { ...before, other_machine_dir: dir };
  await writeProjectState(project.directory, { ...both, status: UPDATING });
  try {
    if (await stopCvm(old)) context.info('Stopped the running machine');
    await createCvm(wanted);
    const state = await startMachine(place, nextState(place, prepared, before, wanted));
    const done = { ...state, other_machine_dir: old };
    await writeProjectState(project.directory, done);
    return await removeOther(place, done);
  } catch (error) {
    await stopCvm(dir);
    const why = await goBack(place, both, old, wasRunning, error);
    const after = await readProjectState(project.directory);
    if (after !== undefined) await removeOther(place, after);
    throw why;
  }
}
