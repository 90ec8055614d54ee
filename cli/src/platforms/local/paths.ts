import { resolve } from 'node:path';
import { type CvmStatus, cvmStatus, machineFolder, VmmError } from '@dstack-cloud/vmm';
import type { GlobalConfig } from '../../config/global-config.ts';
import { type Context, expandHome } from '../../context.ts';
import type { ProjectState } from '../../project/state-file.ts';
import type { Place } from '../platform.ts';

/** Folder with every local machine. */
export function runPath(context: Context, config: GlobalConfig): string {
  return resolve(expandHome(context, config.local.run_path));
}

/**
 * Folder of the project's machine. `state.json` may have come with somebody else's project and name any folder: only one
 * directly below `local.run_path` is a machine. Throws `not_ours`.
 */
export function projectMachine({ context, config }: Place, state: ProjectState): string {
  return machineFolder(runPath(context, config), state.machine_dir);
}

/** Status of the machine in a folder; undefined only when there is none. */
export async function machineIfThere(dir: string): Promise<CvmStatus | undefined> {
  try {
    return await cvmStatus(dir);
  } catch (error) {
    if (error instanceof VmmError && error.code === 'not_found') return undefined;
    throw error;
  }
}
