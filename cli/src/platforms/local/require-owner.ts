import { CliError } from '../../errors.ts';
import { readProjectState } from '../../project/state-file.ts';
import type { Place } from '../platform.ts';
import { isSameFolder } from './find-local.ts';
import { machineIfThere } from './paths.ts';

/**
 * Refuses to change a machine from a copy of the project that it belongs to: the copy has its `state.json`, but the machine
 * knows its own folder. A project that was moved, so that its old place names the machine no more, stays the owner.
 *
 * @throws CliError `not_owner`
 */
export async function requireOwner({ project }: Place, dir: string): Promise<void> {
  const manifest = (await machineIfThere(dir))?.manifest;
  // Nothing there, or nothing that can be read: whoever is left with it may clear it away.
  if (manifest === undefined) return;
  const owner = manifest.project;
  if (owner === null)
    throw new CliError('not_owner', `The machine in ${dir} was made by no project`, {
      expected: `a machine of ${project.directory}`,
      found: 'a machine without a project, such as the key service of a demo',
      hint: `Remove ${project.directory}/state.json, which names it; whoever started that machine ends it`,
    });
  if (isSameFolder(owner, project.directory) || !(await stillNames(owner, dir))) return;
  throw new CliError(
    'not_owner',
    `The machine belongs to the project in ${owner}; ${project.directory} is a copy of it`,
    {
      expected: owner,
      found: project.directory,
      hint: `Run the command in ${owner}. For a machine of its own, remove ${project.directory}/state.json and set another instance_id_seed in its app.json`,
    },
  );
}

async function stillNames(folder: string, dir: string): Promise<boolean> {
  try {
    const state = await readProjectState(folder);
    return state !== undefined && state.status !== 'REMOVED' && isSameFolder(state.machine_dir, dir);
  } catch {
    // It is there, and cannot be read: it may well name the machine.
    return true;
  }
}
