import { type ChildProcess, spawn } from 'node:child_process';
import { join } from 'node:path';
import { writeFileAtomic } from '@dstack-cloud/app';
import { parseDocument } from 'yaml';
import { GuestError } from '../errors.ts';
import { type AgentSockets, agentSocketOf } from './app-environment.ts';
import type { Engine } from './engine.ts';
import type { RunningApp } from './run-processes.ts';
import { ServiceLog } from './service-log.ts';

const STOP_TIMEOUT_MS = 9_000;

/** What an engine runs. */
export interface EngineRunOptions {
  readonly engine: Exclude<Engine, 'process'>;
  readonly composeText: string;
  /** Environment of the compose command: interpolation takes its values from here. */
  readonly env: Readonly<Record<string, string>>;
  readonly project: string;
  readonly workDir: string;
  readonly logDir: string;
  readonly sockets: AgentSockets;
  readonly onOutput: (bytes: Uint8Array) => void;
  readonly signal?: AbortSignal;
}

/**
 * `compose up --remove-orphans -d --build` (chapter 30 section 4.8), with the agent's sockets mounted from where this
 * machine has them, and one follower per service that copies its log.
 *
 * @throws GuestError `start-failed`
 */
export async function runEngine(options: EngineRunOptions): Promise<RunningApp> {
  const file = join(options.workDir, 'docker-compose.yaml');
  await writeFileAtomic(file, options.composeText);
  const override = socketOverride(options.composeText, options.sockets);
  const files = ['-f', file];
  if (override !== undefined) {
    const path = join(options.workDir, 'docker-compose.sockets.json');
    await writeFileAtomic(path, override);
    files.push('-f', path);
  }
  const compose = (...args: string[]): ChildProcess =>
    spawn(options.engine, ['compose', '-p', options.project, ...files, ...args], {
      cwd: options.workDir,
      env: { ...options.env },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
  const up = compose('up', '--remove-orphans', '-d', '--build');
  up.stdout?.on('data', options.onOutput);
  up.stderr?.on('data', options.onOutput);
  const code = await ended(up, options.signal);
  if (code !== 0) {
    const down = compose('down');
    await ended(down, AbortSignal.timeout(STOP_TIMEOUT_MS));
    throw new GuestError('start-failed', `${options.engine} compose up failed with status ${code}`);
  }
  const services = serviceNames(options.composeText);
  const followers = services.map((service) => {
    const log = new ServiceLog(join(options.logDir, `${service}.log`));
    const follower = compose('logs', '--follow', '--no-color', '--no-log-prefix', service);
    follower.stdout?.on('data', (bytes: Uint8Array) => log.write(bytes));
    follower.stderr?.on('data', (bytes: Uint8Array) => log.write(bytes));
    follower.once('error', () => undefined);
    return follower;
  });
  const stop = async (): Promise<void> => {
    for (const follower of followers) follower.kill('SIGTERM');
    await ended(compose('down', '--timeout', '5'), AbortSignal.timeout(STOP_TIMEOUT_MS));
  };
  return { services, stop };
}

async function ended(child: ChildProcess, signal: AbortSignal | undefined): Promise<number> {
  const abort = () => child.kill('SIGKILL');
  if (signal?.aborted) abort();
  signal?.addEventListener('abort', abort, { once: true });
  const code = await new Promise<number>((resolve) => {
    child.once('error', () => resolve(127));
    child.once('close', (status) => resolve(status ?? 137));
  });
  signal?.removeEventListener('abort', abort);
  return code;
}

interface ServiceVolumes {
  readonly volumes?: readonly (string | { readonly source?: string; readonly target?: string })[] | null;
}

function services(composeText: string): [string, ServiceVolumes][] {
  const document = parseDocument(composeText, { merge: true });
  const content = document.toJS({ maxAliasCount: 100 }) as {
    services?: Record<string, ServiceVolumes | null>;
  } | null;
  return Object.entries(content?.services ?? {}).map(([name, service]) => [name, service ?? {}]);
}

function serviceNames(composeText: string): string[] {
  return services(composeText)
    .map(([name]) => name)
    .filter((name) => /^[A-Za-z0-9][A-Za-z0-9_.-]*$/.test(name));
}

/** Compose replaces a volume whose target is the same: so the documented paths lead to this machine's sockets. */
function socketOverride(composeText: string, sockets: AgentSockets): string | undefined {
  const changed = services(composeText).flatMap(([name, { volumes }]) => {
    const moved = (volumes ?? []).flatMap((volume) => {
      const [from = '', to = from] =
        typeof volume === 'string' ? volume.split(':') : [volume.source ?? '', volume.target];
      const socket = agentSocketOf(from, sockets);
      return socket === undefined || socket === from ? [] : [{ type: 'bind', source: socket, target: to }];
    });
    return moved.length === 0 ? [] : [[name, { volumes: moved }] as const];
  });
  return changed.length === 0
    ? undefined
    : JSON.stringify({ services: Object.fromEntries(changed) }, null, 2);
}
