import { execFile } from 'node:child_process';
import type { ProcessManifest } from '../manifest/manifest.ts';

const TIMEOUT_MS = 20_000;
const MAX_OUTPUT = 1024 * 1024;
/** Ids of containers and networks. */
export const ENGINE_ID: RegExp = /^[0-9a-f]{12,64}$/;

/** The engines that a machine may have used; none for one of plain processes. */
export function enginesOf(runner: ProcessManifest['runner'] | undefined): readonly string[] {
  const engine = runner?.engine ?? 'auto';
  if (engine === 'process') return [];
  return engine === 'auto' ? ['docker', 'podman'] : [engine];
}

/** Name of the compose project of a machine: no two machines share one, whatever they are called. */
export function composeProject(machineId: string): string {
  return `dstack-${machineId}`;
}

/** Lines of what an engine printed; undefined when it is not there or refuses. */
export async function engineCommand(
  runner: ProcessManifest['runner'] | undefined,
  program: string,
  args: readonly string[],
): Promise<string[] | undefined> {
  return await new Promise((resolve) => {
    const env = { ...process.env, ...runner?.engine_env };
    execFile(program, [...args], { timeout: TIMEOUT_MS, maxBuffer: MAX_OUTPUT, env }, (error, stdout) =>
      resolve(error === null ? stdout.split('\n').filter((line) => line !== '') : undefined),
    );
  });
}
