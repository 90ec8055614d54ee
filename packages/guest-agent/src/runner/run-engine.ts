import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import {
  type ContainerEngine,
  formatDotEnvValue,
  GUEST_FILES,
  hostSharedCopies,
  writeFileAtomic,
} from '@dstack-cloud/app';
import {
  type ComposeFile,
  ComposeValues,
  envFiles,
  isSealedEnv,
  memberOf,
  type PortMapping,
  planContainers,
} from '@dstack-cloud/app/compose-file';
import { utf8 } from '@dstack-cloud/encoding';
import { GuestError } from '../errors.ts';
import { lastWords } from '../last-words.ts';
import { placeInEngine } from './place-in-engine.ts';
import type { ProcessFolders } from './place-service.ts';
import type { RunningApp } from './run-processes.ts';
import { ServiceLog } from './service-log.ts';
import { FilteredLines, withholdSecrets } from './withhold-secrets.ts';

const STOP_TIMEOUT_MS = 9_000;
/** Lines of compose's stderr that an error may end with. */
const KEPT_LINES = 8;

/** What an engine runs. */
export interface EngineRunOptions {
  readonly engine: ContainerEngine;
  readonly composeText: string;
  readonly file: ComposeFile;
  /** Environment of the compose command: interpolation takes its values from here. */
  readonly env: Readonly<Record<string, string>>;
  /** The decrypted environment: what `env_file: .env` gives. */
  readonly sealedEnv: Readonly<Record<string, string>>;
  /** Variables whose values nobody outside may see. */
  readonly secrets: Readonly<Record<string, string>>;
  readonly project: string;
  readonly folders: ProcessFolders;
  /** Ports of the host that lead to the machine; only where the engine is that of the host. */
  readonly ports: readonly PortMapping[];
  readonly logDir: string;
  readonly onOutput: (bytes: Uint8Array) => void;
  readonly say: (line: string) => void;
  readonly signal?: AbortSignal;
  /** The containers run already. */
  readonly resume?: boolean;
  /** Images to run services from, by id, whatever the compose file calls them. */
  readonly images?: ReadonlyMap<string, string>;
}

/**
 * `compose up --remove-orphans -d --build`, and one follower per service that copies its log. A machine of its own runs
 * the file as it is; where a directory stands for the machine, names, paths and ports become this machine's.
 *
 * @throws AppError `compose-file-unsupported`, GuestError `start-failed`
 */
export async function runEngine(options: EngineRunOptions): Promise<RunningApp> {
  const { engine, project, folders, say } = options;
  const files = [await composeFile(options), ...(await imagesFile(options))].flatMap((path) => ['-f', path]);
  const compose = (...args: string[]): ChildProcess => {
    const [program, ...first] = engine.compose as [string, ...string[]];
    return spawn(program, [...first, '-p', project, ...files, ...args], {
      cwd: folders.workDir,
      env: { ...options.env },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
  };
  const services = [...options.file.services.keys()];
  const down = () => ended(compose('down', '--timeout', '5'), AbortSignal.timeout(STOP_TIMEOUT_MS));
  const stopAll = async (): Promise<void> => void (await down());
  if (options.resume) return { services, stop: stopAll };
  say(`Starting the application with ${engine.compose.join(' ')}, project ${project}`);
  const up = compose('up', '--remove-orphans', '-d', '--build');
  const said = relay(up, options);
  const code = await ended(up, options.signal);
  const why = lastWords(said());
  if (code !== 0) {
    await down();
    const reason = why === '' ? '' : `: ${why}`;
    throw new GuestError(
      'start-failed',
      `${engine.compose.join(' ')} up failed with status ${code}${reason}`,
    );
  }
  // A machine of its own has the containers' logs from its engine.
  if (folders.root === '/') return { services, stop: stopAll };
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
    await down();
  };
  return { services, stop };
}

/**
 * Passes on what the command prints, without lines that may contain a secret: the host reads the console, and the command
 * may repeat values that it interpolates. The function that it returns ends that, and gives the end of stderr.
 */
function relay(command: ChildProcess, { secrets, composeText, onOutput }: EngineRunOptions): () => string {
  const filter = withholdSecrets(secrets, composeText);
  let last: string[] = [];
  const pass = (line: string) => onOutput(utf8(`${line}\n`));
  const stdout = new FilteredLines(filter, pass);
  const stderr = new FilteredLines(filter, (line) => {
    pass(line);
    last = [...last, line].slice(-KEPT_LINES);
  });
  command.stdout?.on('data', (bytes: Uint8Array) => stdout.write(bytes));
  command.stderr?.on('data', (bytes: Uint8Array) => stderr.write(bytes));
  return () => {
    stdout.end();
    stderr.end();
    return last.join('\n');
  };
}

/** Writes what the engine reads, and returns its path. */
async function composeFile(options: EngineRunOptions): Promise<string> {
  const { folders, composeText, file, env: variables, project, ports, say } = options;
  const path = join(folders.workDir, 'docker-compose.yaml');
  await writeFileAtomic(path, composeText);
  const envFile = await sealedEnvFile(options);
  if (folders.root === '/') return path;
  const plan = planContainers(file, {
    variables,
    project,
    ports,
    placePath: (name) =>
      envFile !== undefined && isSealedEnv(name) ? envFile : placeInEngine(name, folders),
  });
  for (const note of plan.notes) say(note);
  const own = join(folders.workDir, 'docker-compose.machine.yaml');
  await writeFileAtomic(own, plan.text);
  return own;
}

/** What is merged over the compose file: the ids of images that were loaded, which no engine knows by their digest. */
async function imagesFile({ folders, file, images }: EngineRunOptions): Promise<readonly string[]> {
  if (images === undefined || images.size === 0) return [];
  const path = join(folders.workDir, 'docker-compose.images.yaml');
  const version = memberOf(file.root, 'version');
  const services = Object.fromEntries([...images].map(([service, image]) => [service, { image }]));
  // Older compose commands merge files of one version only.
  const text = version?.kind === 'scalar' && version.text !== null ? { version: version.text } : {};
  await writeFileAtomic(path, `${JSON.stringify({ ...text, services }, null, 2)}\n`);
  return [path];
}

/**
 * The decrypted environment for `env_file: .env`, in the syntax of compose. A file of that name that a script of the
 * application has made is its own.
 */
async function sealedEnvFile(options: EngineRunOptions): Promise<string | undefined> {
  const { folders, file, sealedEnv } = options;
  const values = new ComposeValues(file.source, { variables: options.env });
  const uses = [...file.services.values()].flatMap((service) => envFiles(service, values));
  const own = join(folders.workDir, '.env');
  if (!uses.some((use) => isSealedEnv(use.path)) || existsSync(own)) return undefined;
  const path = folders.root === '/' ? own : join(hostSharedCopies(folders.workDir), GUEST_FILES.composeEnv);
  const lines = Object.entries(sealedEnv).map(([name, value]) => `${name}=${formatDotEnvValue(value)}\n`);
  await writeFileAtomic(path, lines.join(''));
  return path;
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
