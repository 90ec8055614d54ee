import { rename } from 'node:fs/promises';
import { join } from 'node:path';
import { CliError, EXIT } from '../errors.ts';
import { type ProjectState, readProjectState } from '../project/state-file.ts';
import type { Place, Platform } from './platform.ts';

/** What is known about the project's machine. */
export interface Deployment {
  /** Undefined when there is none. */
  readonly state: ProjectState | undefined;
  /** Why `state.json` cannot be read; `state` is then what the machine itself says. */
  readonly problem: CliError | undefined;
}

/**
 * The project's deployment: as `state.json` has it, and without one, or with one that cannot be read, as the machine itself
 * says whose it is. So a machine is never out of sight because of a file.
 */
export async function findDeployment(place: Place, platform: Platform): Promise<Deployment> {
  let problem: CliError | undefined;
  try {
    const state = await readProjectState(place.project.directory);
    if (state !== undefined)
      return { state: state.status === 'REMOVED' ? undefined : state, problem: undefined };
  } catch (error) {
    if (!(error instanceof CliError)) throw error;
    problem = error;
  }
  return { state: await platform.find(place), problem };
}

/**
 * For a command that stops or removes: a damaged `state.json` is a warning, and is moved aside, so that the command can write
 * down what the machine is now.
 */
export async function deploymentToEnd(place: Place, platform: Platform): Promise<ProjectState | undefined> {
  const { state, problem } = await findDeployment(place, platform);
  const why = problem ?? place.project.problem;
  if (why !== undefined && state === undefined) throw why;
  if (problem !== undefined) {
    const path = join(place.project.directory, 'state.json');
    await rename(path, `${path}.bad`).catch(() => undefined);
    place.context.warn(`${problem.message}; it is now ${path}.bad, and the machine itself says whose it is`);
  }
  return state;
}

/** The state of a project that must be deployed. Throws `not_deployed`, `state_damaged`. */
export async function requireDeployment(place: Place, platform: Platform): Promise<ProjectState> {
  const { state, problem } = await findDeployment(place, platform);
  if (problem !== undefined) throw problem;
  if (state !== undefined) return state;
  throw new CliError('not_deployed', "No deployment found. Run 'dstack-cloud deploy' first.", {
    exitCode: place.context.exitCode ? EXIT.notFound : EXIT.failure,
  });
}
