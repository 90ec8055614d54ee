import { isAlive, startCvm } from '@dstack-cloud/vmm';
import { type ProjectState, writeProjectState } from '../../project/state-file.ts';
import { explainBoot } from '../explain-boot.ts';
import type { Place } from '../platform.ts';
import { machineIfThere, projectMachine } from './paths.ts';

/** Starts the machine that `state` names; returns the state of the running machine, and writes nothing. */
export async function startMachine(place: Place, state: ProjectState): Promise<ProjectState> {
  const { context } = place;
  context.info('Booting');
  const started = await startCvm(projectMachine(place, state), {
    signal: context.signal,
    onProgress: (text) => context.info(`  ${text}`),
  });
  return {
    ...state,
    status: 'RUNNING',
    updated_at: context.now().toISOString(),
    urls: started.state.urls,
    instance_id: started.state.instance_id ?? state.instance_id,
  };
}

/** Starts the machine and records how that went. */
export async function boot(
  place: Place,
  state: ProjectState,
  command: 'deploy' | 'start',
): Promise<ProjectState> {
  const { context, project } = place;
  try {
    const next = await startMachine(place, state);
    await writeProjectState(project.directory, next);
    return next;
  } catch (error) {
    const status = await machineIfThere(projectMachine(place, state));
    const alive = status?.state.supervisor != null && isAlive(status.state.supervisor);
    await writeProjectState(project.directory, {
      ...state,
      status: alive ? 'RUNNING' : 'FAILED',
      updated_at: context.now().toISOString(),
      urls: alive ? (status?.state.urls ?? {}) : {},
    });
    throw explainBoot(error, state, command);
  }
}
