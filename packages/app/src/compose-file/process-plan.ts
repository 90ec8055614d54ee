import type { ComposeFile } from './compose-file.ts';
import { type ComposeMap, memberOf } from './compose-node.ts';
import { ComposeValues, type ValueScope } from './compose-values.ts';
import { notesOn } from './process-notes.ts';
import { duration, type RestartPolicy, restartPolicy } from './restart-policy.ts';
import { type Dependency, serviceDependencies, startOrder } from './service-dependencies.ts';
import { envFiles, isSealedEnv, serviceEnvironment } from './service-environment.ts';
import { type FileUse, serviceFiles } from './service-files.ts';
import { type PortUse, servicePorts } from './service-ports.ts';
import { serviceVolumes, type VolumeUse } from './service-volumes.ts';
import { splitCommand } from './split-command.ts';

const DEFAULT_GRACE_MS = 10_000;
/** The socket of a container engine, by its usual paths. */
export const ENGINE_SOCKET: RegExp =
  /^(?:\/var)?\/run\/(?:docker|podman\/podman|containerd\/containerd)\.sock$/;

/** A service as a plain process. */
export interface ProcessService {
  readonly name: string;
  /** Argument vector: entrypoint, then command. */
  readonly argv: readonly string[];
  readonly environment: ReadonlyMap<string, string>;
  readonly workingDir: string | undefined;
  readonly restart: RestartPolicy;
  readonly stopSignal: NodeJS.Signals;
  readonly stopGraceMs: number;
  readonly dependsOn: readonly Dependency[];
  readonly volumes: readonly VolumeUse[];
  readonly ports: readonly PortUse[];
  readonly files: readonly FileUse[];
}

/** How a compose file runs without an engine. */
export interface ProcessPlan {
  /** In the order in which they start. */
  readonly services: readonly ProcessService[];
  /** Services that only an inactive profile starts. */
  readonly skipped: readonly string[];
  /** What the file asks for and plain processes do not do. */
  readonly notes: readonly string[];
}

export interface ProcessPlanOptions extends ValueScope {
  /** The environment that the project seals: what `env_file: .env` gives. */
  readonly sealedEnv: Readonly<Record<string, string>>;
}

/**
 * Reads a compose file for plain processes; the command line asks before it hands the file over, the guest when it
 * runs it.
 *
 * @throws AppError `compose-file-invalid`, or `compose-file-unsupported` when a service cannot run without an engine
 */
export function planProcesses(file: ComposeFile, options: ProcessPlanOptions): ProcessPlan {
  const values = new ComposeValues(file.source, options);
  const profiles = new Set((options.variables['COMPOSE_PROFILES'] ?? '').split(',').filter(Boolean));
  const isActive = (service: ComposeMap): boolean => {
    const wanted = values.texts(service, 'profiles');
    return wanted.length === 0 || profiles.has('*') || wanted.some((profile) => profiles.has(profile));
  };
  const all = [...file.services];
  const active = all.filter(([, service]) => isActive(service));
  const skipped = all.filter(([, service]) => !isActive(service)).map(([name]) => name);
  const services = active.map(([name, service]) => readService(file, name, service, values, options));
  refuseEndless(file, services);
  return {
    services: startOrder(services, skipped, values),
    skipped,
    notes: notesOn(file, new Map(active), services),
  };
}

function readService(
  file: ComposeFile,
  name: string,
  service: ComposeMap,
  values: ComposeValues,
  { variables, sealedEnv }: ProcessPlanOptions,
): ProcessService {
  for (const member of ['extends', 'volumes_from']) {
    const node = memberOf(service, member);
    if (node !== undefined)
      file.source.unsupported(node.at, `service ${name}: ${member} needs a container engine`);
  }
  const argv = [...words(service, 'entrypoint', values), ...words(service, 'command', values)];
  if (argv.length === 0) {
    file.source.unsupported(
      service.at,
      `service ${name} declares no command: it cannot run without a container engine; install Docker or Podman, or add a command that this machine has`,
    );
  }
  const environment = new Map<string, string>();
  for (const { path, at, required } of envFiles(service, values)) {
    if (isSealedEnv(path)) for (const [key, value] of Object.entries(sealedEnv)) environment.set(key, value);
    else if (required && !values.isOpen(path))
      file.source.unsupported(
        at,
        `service ${name}: env_file ${path} needs a container engine; .env is known`,
      );
  }
  for (const [key, value] of serviceEnvironment(service, values, variables)) environment.set(key, value);
  const files = serviceFiles(file, service, values);
  for (const { at, kind, name: use, content } of files)
    if (content.from === 'engine')
      file.source.unsupported(at, `service ${name}: ${kind} ${use} is kept by a container engine`);
  const volumes = serviceVolumes(service, values);
  for (const { at, type, source } of volumes)
    if (type === 'other' || ENGINE_SOCKET.test(source ?? ''))
      file.source.unsupported(at, `service ${name}: this volume needs a container engine`);
  return {
    name,
    argv,
    environment,
    workingDir: values.member(service, 'working_dir'),
    restart: restartPolicy(service, values),
    stopSignal: stopSignal(service, values),
    stopGraceMs: duration(service, 'stop_grace_period', DEFAULT_GRACE_MS, values),
    dependsOn: serviceDependencies(service, values),
    volumes,
    ports: servicePorts(service, values),
    files,
  };
}

function refuseEndless(file: ComposeFile, services: readonly ProcessService[]): void {
  const endless = services.filter(({ restart }) => restart.when === 'always').map(({ name }) => name);
  for (const { name, dependsOn } of services)
    for (const { name: other, at, condition } of dependsOn)
      if (condition === 'completed' && endless.includes(other))
        file.source.fail(
          at,
          `service ${name} waits for ${other} to complete, which restart: always never does`,
        );
}

function words(service: ComposeMap, name: string, values: ComposeValues): readonly string[] {
  const node = memberOf(service, name);
  if (node === undefined) return [];
  if (node.kind !== 'scalar') return values.texts(service, name);
  const result = splitCommand(values.text(node, name));
  return 'problem' in result ? values.source.fail(node.at, result.problem) : result;
}

const SIGNALS = new Set(['TERM', 'INT', 'QUIT', 'HUP', 'USR1', 'USR2', 'KILL', 'WINCH', 'ABRT', 'STOP']);

function stopSignal(service: ComposeMap, values: ComposeValues): NodeJS.Signals {
  const text = values.member(service, 'stop_signal') ?? 'SIGTERM';
  const name = text.replace(/^SIG/, '');
  if (values.isOpen(text)) return 'SIGTERM';
  if (!SIGNALS.has(name))
    values.source.unsupported(
      (memberOf(service, 'stop_signal') ?? service).at,
      `stop_signal ${JSON.stringify(text.slice(0, 40))} is not known; ${[...SIGNALS].map((one) => `SIG${one}`).join(', ')}`,
    );
  return `SIG${name}` as NodeJS.Signals;
}
