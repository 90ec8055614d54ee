import { execFile } from 'node:child_process';
import {
  AppError,
  type ContainerEngine,
  chooseEngine,
  engineProbe,
  engineVariables,
} from '@dstack-cloud/app';
import { CliError } from '../../errors.ts';
import type { Place } from '../platform.ts';

/** The engine of this host that a machine will use, now and at every later start. */
export interface HostEngine {
  readonly engine: ContainerEngine;
  /** Variables that lead to the same daemon from any shell. */
  readonly env: Readonly<Record<string, string>>;
}

const CONTEXT_TIMEOUT_MS = 10_000;
const known = new Map<string, Promise<HostEngine>>();

/**
 * Finds the engine once: the one that `local_config.engine` of app.json, else the configuration, names.
 *
 * @throws CliError `engine_missing` when it was named and cannot be used
 */
export async function hostEngine({ context, config, project }: Place): Promise<HostEngine> {
  const wanted = project.config.local_config.engine ?? config.local.engine;
  const variables = engineVariables({ ...context.env, ...config.local.env });
  const key = JSON.stringify([wanted, variables, context.env['PATH']]);
  const found = known.get(key) ?? find(wanted, variables, context.env);
  known.set(key, found);
  return await found;
}

async function find(
  wanted: 'auto' | ContainerEngine['name'],
  variables: Record<string, string>,
  shell: NodeJS.ProcessEnv,
): Promise<HostEngine> {
  const env = { PATH: shell['PATH'] ?? '', HOME: shell['HOME'] ?? '', ...variables };
  try {
    const engine = await chooseEngine(wanted, engineProbe(env));
    const isDocker = engine.name === 'docker';
    return { engine, env: isDocker ? { ...variables, ...(await daemonOfContext(env)) } : variables };
  } catch (error) {
    if (!(error instanceof AppError) || error.code !== 'engine-missing') throw error;
    throw new CliError('engine_missing', error.message, {
      expected: error.expected ?? wanted,
      found: error.found ?? 'no answer',
      hint: `Start ${wanted}, or set local_config.engine in app.json to auto or process`,
      cause: error,
    });
  }
}

/** The context of the moment may be another one at the next start, so its address is kept, or at least its name. */
async function daemonOfContext(env: Readonly<Record<string, string>>): Promise<Record<string, string>> {
  if (env['DOCKER_HOST'] !== undefined) return {};
  const host = await docker(env, ['context', 'inspect', '--format', '{{.Endpoints.docker.Host}}']);
  if (host.startsWith('unix://')) return { DOCKER_HOST: host };
  const name = await docker(env, ['context', 'show']);
  return name === '' ? {} : { DOCKER_CONTEXT: name };
}

/** The first line; empty when the client does not know the command. */
async function docker(env: Readonly<Record<string, string>>, args: readonly string[]): Promise<string> {
  return await new Promise((resolve) => {
    execFile('docker', [...args], { env: { ...env }, timeout: CONTEXT_TIMEOUT_MS }, (error, stdout) =>
      resolve(error === null ? (stdout.split('\n')[0] ?? '') : ''),
    );
  });
}
