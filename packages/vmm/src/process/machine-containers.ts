import type { CvmManifest } from '../manifest/manifest.ts';
import type { CvmPaths } from '../manifest/paths.ts';
import { composeProject, ENGINE_ID, engineCommand, enginesOf } from './engine-command.ts';

/** Compose puts these on every container; the folder is this machine's own. */
const FOLDER_LABEL = 'com.docker.compose.project.working_dir';
const PROJECT_LABEL = 'com.docker.compose.project';

/**
 * Removes the containers and networks that a machine's application left, when the runner that would have ended them was
 * killed. They are found by the folder of the machine, which the engine remembers, and by the name of its project.
 *
 * @returns how many containers there were
 */
export async function endMachineContainers(
  paths: CvmPaths,
  manifest: CvmManifest | undefined,
): Promise<number> {
  // A virtual machine's containers end with it, and an enclave has none.
  if (manifest !== undefined && manifest.driver !== 'process') return 0;
  const runner = manifest?.runner;
  let count = 0;
  for (const program of enginesOf(runner)) {
    const run = async (...args: string[]) => (await engineCommand(runner, program, args)) ?? [];
    const filters = [`${FOLDER_LABEL}=${paths.work}`];
    if (manifest !== undefined) filters.push(`${PROJECT_LABEL}=${composeProject(manifest.id)}`);
    const found = new Map<string, string | undefined>();
    const format = `{{.ID}} {{.Label "${PROJECT_LABEL}"}}`;
    for (const filter of filters) {
      const lines = await run('ps', '--all', '--no-trunc', '--filter', `label=${filter}`, '--format', format);
      for (const line of lines) {
        const [id = '', project] = line.split(' ');
        if (ENGINE_ID.test(id)) found.set(id, project);
      }
    }
    if (found.size === 0) continue;
    count += found.size;
    await run('rm', '--force', ...found.keys());
    for (const project of new Set(found.values())) {
      const left = await run('network', 'ls', '--quiet', '--filter', `label=${PROJECT_LABEL}=${project}`);
      const networks = left.filter((id) => ENGINE_ID.test(id));
      if (project !== undefined && networks.length > 0) await run('network', 'rm', ...networks);
    }
  }
  return count;
}
