import { execFile } from 'node:child_process';
import type { CvmManifest } from './manifest.ts';
import type { CvmPaths } from './paths.ts';

const TIMEOUT_MS = 20_000;
const MAX_OUTPUT = 1024 * 1024;
/** Compose puts these on every container; the folder is this machine's own. */
const FOLDER_LABEL = 'com.docker.compose.project.working_dir';
const PROJECT_LABEL = 'com.docker.compose.project';
const ID = /^[0-9a-f]{12,64}$/;

/**
 * Removes the containers and networks that a machine's application left, when the runner that would have ended them was
 * killed. They are found by the folder of the machine, which the engine remembers, not by a name.
 *
 * @returns how many containers there were
 */
export async function endMachineContainers(
  paths: CvmPaths,
  engine: CvmManifest['runner']['engine'],
): Promise<number> {
  if (engine === 'process') return 0;
  let count = 0;
  for (const program of engine === 'auto' ? ['docker', 'podman'] : [engine]) {
    const filter = `label=${FOLDER_LABEL}=${paths.work}`;
    const format = `{{.ID}} {{.Label "${PROJECT_LABEL}"}}`;
    const lines = await run(program, ['ps', '--all', '--no-trunc', '--filter', filter, '--format', format]);
    const found = lines.map((line) => line.split(' ')).filter(([id = '']) => ID.test(id));
    const ids = found.map(([id]) => id as string);
    if (ids.length === 0) continue;
    count += ids.length;
    await run(program, ['rm', '--force', ...ids]);
    for (const project of new Set(found.map(([, name]) => name))) {
      const networks = ['network', 'ls', '--quiet', '--filter', `label=${PROJECT_LABEL}=${project}`];
      const left = (await run(program, networks)).filter((id) => ID.test(id));
      if (project !== undefined && left.length > 0) await run(program, ['network', 'rm', ...left]);
    }
  }
  return count;
}

/** Lines of what an engine printed; none when it is not there or refuses. */
async function run(program: string, args: readonly string[]): Promise<string[]> {
  return await new Promise((resolve) => {
    const options = { timeout: TIMEOUT_MS, maxBuffer: MAX_OUTPUT };
    execFile(program, [...args], options, (error, stdout) =>
      resolve(error === null ? stdout.split('\n').filter((line) => line !== '') : []),
    );
  });
}
