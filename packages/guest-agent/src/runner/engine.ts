import { execFile } from 'node:child_process';
import { GuestError } from '../errors.ts';

/** How a compose file is run. */
export type Engine = 'docker' | 'podman' | 'process';

const PROBE_TIMEOUT_MS = 10_000;

/** Whether a command ends with status 0 within the time-out. */
export type Probe = (command: readonly string[]) => Promise<boolean>;

/** Asks an engine in the environment that compose will run in: it says which daemon is meant. */
export function engineProbe(env: Readonly<Record<string, string>>): Probe {
  return (command) =>
    new Promise((resolve) => {
      const [program, ...args] = command as [string, ...string[]];
      execFile(program, args, { timeout: PROBE_TIMEOUT_MS, env: { ...env } }, (error) =>
        resolve(error === null),
      );
    });
}

/**
 * The engine to use: the wanted one, or with `auto` the first whose daemon and compose plugin answer, else plain
 * processes.
 *
 * @throws GuestError `engine-missing` when a certain engine is wanted and does not answer
 */
export async function chooseEngine(wanted: 'auto' | Engine, answers: Probe): Promise<Engine> {
  if (wanted === 'process') return 'process';
  for (const engine of wanted === 'auto' ? (['docker', 'podman'] as const) : [wanted]) {
    if ((await answers([engine, 'info'])) && (await answers([engine, 'compose', 'version']))) return engine;
  }
  if (wanted === 'auto') return 'process';
  throw new GuestError(
    'engine-missing',
    `${wanted} compose does not answer; start ${wanted} or set runner.engine to auto`,
  );
}
