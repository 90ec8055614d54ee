import { execFile } from 'node:child_process';
import { AppError } from './errors.ts';

/** How a compose file is run: by an engine, or as plain processes. */
export type EngineName = 'docker' | 'podman' | 'process';

/** The engine that runs the containers of a machine, and the program that starts them. */
export interface ContainerEngine {
  readonly name: EngineName;
  /** The compose command; empty for plain processes. */
  readonly compose: readonly string[];
}

/** Variables by which the clients of the engines find theirs: an address, or a context and what belongs to it. */
const ENGINE_VARIABLES: readonly string[] = [
  ...[
    'DOCKER_HOST',
    'DOCKER_CONTEXT',
    'DOCKER_CONFIG',
    'DOCKER_TLS_VERIFY',
    'DOCKER_CERT_PATH',
    'DOCKER_API_VERSION',
  ],
  ...['CONTAINER_HOST', 'CONTAINER_CONNECTION', 'CONTAINER_SSHKEY', 'XDG_RUNTIME_DIR'],
];

/** Those of the variables that are set. */
export function engineVariables(env: Readonly<Record<string, string | undefined>>): Record<string, string> {
  return Object.fromEntries(
    ENGINE_VARIABLES.flatMap((name) => {
      const value = env[name];
      return value === undefined || value === '' ? [] : [[name, value] as const];
    }),
  );
}

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
 * The engine to use: the wanted one, or with `auto` the first whose daemon and compose answer, else plain processes.
 *
 * @throws AppError `engine-missing` when a certain engine is wanted and does not answer
 */
export async function chooseEngine(wanted: 'auto' | EngineName, answers: Probe): Promise<ContainerEngine> {
  if (wanted === 'process') return { name: 'process', compose: [] };
  const missing: string[] = [];
  for (const name of wanted === 'auto' ? (['docker', 'podman'] as const) : [wanted]) {
    if (!(await answers([name, 'info']))) {
      missing.push(`${name} does not answer (${name} info)`);
      continue;
    }
    const standalone = name === 'docker' ? 'docker-compose' : 'podman-compose';
    for (const compose of [[name, 'compose'], [standalone]])
      if (await answers([...compose, 'version'])) return { name, compose };
    missing.push(`${name} answers, but neither ${name} compose nor ${standalone} is installed`);
  }
  if (wanted === 'auto') return { name: 'process', compose: [] };
  throw new AppError('engine-missing', `Container engine ${wanted} cannot be used: ${missing.join('; ')}`, {
    expected: `${wanted} and its compose command`,
    found: missing.join('; '),
  });
}
