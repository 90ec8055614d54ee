import { mkdir } from 'node:fs/promises';
import { dirname, join, resolve, sep } from 'node:path';
import { writeFileAtomic } from '@dstack-cloud/app';
import { GuestError } from '../errors.ts';
import { type AgentSockets, baseEnvironment, socketVariables } from './app-environment.ts';
import { type ComposeService, parseComposeFile } from './compose-file.ts';
import { containersFile, writeContainers } from './containers-file.ts';
import { ownProgram } from './own-program.ts';
import { ProcessService } from './process-service.ts';
import { ServiceLog } from './service-log.ts';

/** Longest wait for a service to end by itself; whoever stops us waits little longer. */
const MAX_GRACE_MS = 8_000;

/** What the plain processes of an application are run with. */
export interface ProcessRunOptions {
  readonly composeText: string;
  /** Decrypted environment and what pre_launch_script exported: for interpolation only, as with an engine. */
  readonly variables: Readonly<Record<string, string>>;
  /** The machine's own environment. */
  readonly machineEnv: NodeJS.ProcessEnv;
  /** Non-secret variables for the services, from the guest configuration. */
  readonly extraEnv: Readonly<Record<string, string>>;
  readonly sockets: AgentSockets;
  /** Each service has the directory `<dataDir>/<service>` for its files; it outlives restarts. */
  readonly dataDir: string;
  readonly logDir: string;
  readonly runDir: string;
  readonly say: (line: string) => void;
}

/** A running application. */
export interface RunningApp {
  readonly services: readonly string[];
  stop(): Promise<void>;
}

/**
 * Starts the services of a compose file as plain child processes: no image, no network or mount namespace, no
 * isolation from each other or from the host. Meant for development on a machine without a container engine.
 *
 * @throws GuestError `compose-invalid`, `compose-unsupported`, `start-failed`; nothing is left running then
 */
export async function runProcesses(options: ProcessRunOptions): Promise<RunningApp> {
  const { say } = options;
  const missing = new Set<string>();
  const compose = parseComposeFile(options.composeText, {
    variables: options.variables,
    onMissing: (name) => missing.add(name),
  });
  for (const name of missing) say(`Variable ${name} is not set; it is replaced by an empty text`);
  for (const name of compose.skipped) say(`Service ${name} belongs to a profile and is not started`);
  say(
    'No container engine: services run as plain processes with NO ISOLATION (no image, no network or mount namespace)',
  );
  const services: ProcessService[] = [];
  const publish = () => writeContainers(containersFile(options.runDir), services);
  const stop = async (): Promise<void> => {
    // The last started first: nobody loses what it depends on while it still runs.
    await Promise.all(services.toReversed().map((service) => service.stop()));
  };
  const portOwner = ownerOfPort(compose.services);
  try {
    for (const service of compose.services) {
      const process_ = await prepareService(service, options, service.name === portOwner, publish);
      services.push(process_);
      await process_.start();
      say(`Service ${service.name} started, process ${process_.pid}`);
    }
  } catch (error) {
    await stop();
    throw error;
  }
  return { services: services.map(({ name }) => name), stop };
}

/** PORT names the one port that the host forwards: it belongs to the first service that publishes any. */
function ownerOfPort(services: readonly ComposeService[]): string | undefined {
  return (services.find(({ hasPorts }) => hasPorts) ?? (services.length === 1 ? services[0] : undefined))
    ?.name;
}

async function prepareService(
  service: ComposeService,
  options: ProcessRunOptions,
  ownsPort: boolean,
  onChange: () => void,
): Promise<ProcessService> {
  const home = join(options.dataDir, service.name);
  const cwd = service.workingDir === undefined ? home : resolve(home, service.workingDir);
  await mkdir(home, { recursive: true, mode: 0o700 });
  if (cwd.startsWith(home + sep)) await mkdir(cwd, { recursive: true, mode: 0o700 });
  for (const { target, content } of service.configs) await writeConfig(home, target, content);
  const { PORT: port, ...extra } = options.extraEnv;
  const env: Record<string, string> = {
    ...baseEnvironment(options.machineEnv),
    ...service.environment,
    ...extra,
    ...(ownsPort && port !== undefined ? { PORT: port } : {}),
    ...socketVariables(service.volumeSources, options.sockets),
  };
  const endpoint = env['DSTACK_SIMULATOR_ENDPOINT'];
  if (endpoint !== undefined) {
    options.say(`Service ${service.name}: dstack.sock is at DSTACK_SIMULATOR_ENDPOINT=${endpoint}`);
  }
  const [program, ...args] = service.argv as [string, ...string[]];
  return new ProcessService({
    name: service.name,
    argv: [...(ownProgram(program, { ...options.machineEnv, ...extra }) ?? [program]), ...args],
    cwd,
    env,
    restart: service.restart,
    stopSignal: service.stopSignal,
    stopGraceMs: Math.min(service.stopGraceMs, MAX_GRACE_MS),
    log: new ServiceLog(join(options.logDir, `${service.name}.log`)),
    onChange,
    say: options.say,
  });
}

/** An inline config lands below the service's directory, at its target without the leading slash. */
async function writeConfig(home: string, target: string, content: string): Promise<void> {
  const path = resolve(home, `./${target}`);
  if (!path.startsWith(home + sep)) {
    throw new GuestError('compose-invalid', `Config target ${target} leaves the service's directory`);
  }
  await mkdir(dirname(path), { recursive: true, mode: 0o700 });
  await writeFileAtomic(path, content);
}
