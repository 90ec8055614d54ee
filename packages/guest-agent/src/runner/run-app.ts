import { chmod } from 'node:fs/promises';
import { join } from 'node:path';
import {
  type AppCompose,
  assertSupported,
  type ContainerEngine,
  chooseEngine,
  ENV_LIMITS,
  engineProbe,
  engineVariables,
  GUEST_FILES,
  HOST_SHARED_LIMITS,
  parseAppCompose,
  parseSysConfig,
  readFileBounded,
  table,
  writeFileAtomic,
} from '@dstack-cloud/app';
import { readComposeFile } from '@dstack-cloud/app/compose-file';
import { utf8Text } from '@dstack-cloud/encoding';
import { z } from 'zod';
import { CONTAINERS_MODE } from '../config/containers-mode.ts';
import { type GuestConfig, machineAbilities } from '../config/guest-config.ts';
import type { NotifyHost } from '../host/host-api.ts';
import { hostSharedCopy } from '../host/host-shared.ts';
import { dockerSocketPath } from '../machine/application-containers.ts';
import { containersFile, writeContainers } from '../machine/containers-file.ts';
import { type AgentSockets, baseEnvironment } from '../script/app-environment.ts';
import { sourceScript } from '../script/source-script.ts';
import { type EngineImages, imagesByApi, imagesByCommand } from './engine-images.ts';
import { loadImages } from './load-images.ts';
import { ProcessService } from './process-service.ts';
import { runEngine } from './run-engine.ts';
import { type RunningApp, runProcesses } from './run-processes.ts';
import { ServiceLog } from './service-log.ts';

/** The text form of the largest environment, every byte escaped. */
const MAX_ENV_FILE = ENV_LIMITS.totalBytes * 6 + 1024;

/** What a shell sets by itself. */
const SHELL_VARIABLES: ReadonlySet<string> = new Set(['PWD', 'OLDPWD', 'SHLVL', '_']);

/** A machine of its own has Docker, and started it. Compose by its own name: as a plugin, two more programs would start. */
const OWN_ENGINE: ContainerEngine = { name: 'docker', compose: ['docker-compose'] };

/** What the runner needs beside its configuration. */
export interface RunAppOptions {
  readonly config: GuestConfig;
  readonly notify: NotifyHost;
  readonly say: (line: string) => void;
  readonly machineEnv: NodeJS.ProcessEnv;
  readonly signal: AbortSignal;
  /** The application runs already, started by a program that has ended since. */
  readonly resume?: boolean;
}

/**
 * Starts the application of a prepared machine: pre_launch_script, then the runner that app-compose names.
 *
 * @throws GuestError; nothing is left running then
 */
export async function runApp(options: RunAppOptions): Promise<RunningApp> {
  const { config, notify, say, signal } = options;
  const shared = hostSharedCopy(config.workDir);
  const compose = parseAppCompose(await readShared(shared, 'app-compose.json'));
  // The copy was checked when the machine was prepared; nothing runs on the word of a file alone.
  assertSupported(compose, machineAbilities(config));
  const sys = parseSysConfig(await readShared(shared, '.sys-config.json'));
  const pccs = config.pccsUrl ?? sys.pccsUrl;
  const sealedEnv = await decryptedEnv(shared);
  const ordinary: Record<string, string> = {
    ...baseEnvironment(options.machineEnv),
    ...(pccs === undefined ? {} : { PCCS_URL: pccs }),
    ...config.runner.env,
  };
  let variables: Record<string, string> = { ...ordinary, ...sealedEnv };
  const onOutput = (bytes: Uint8Array) => process.stderr.write(bytes);
  const resume = options.resume === true && compose.runner === 'docker-compose';
  if (compose.preLaunchScript !== undefined && !resume) {
    await notify('boot.progress', 'pre-launch');
    const { preLaunchScript: script } = compose;
    say(script.trim() === '' ? 'pre_launch_script is empty' : 'Running pre_launch_script');
    const { workDir } = config;
    variables = await sourceScript({
      member: 'pre_launch_script',
      ...{ script, workDir, env: variables, signal, onOutput },
    });
  }
  // A script may put secrets into its variables as well.
  const added = Object.entries(variables).filter(
    ([name, value]) => ordinary[name] !== value && !SHELL_VARIABLES.has(name),
  );
  const secrets = { ...Object.fromEntries(added), ...sealedEnv };
  const app = await start(compose, { variables, sealedEnv, secrets }, { ...options, resume }, onOutput);
  if (!resume) await notify('boot.progress', 'done');
  return app;
}

async function start(
  compose: AppCompose,
  { variables, sealedEnv, secrets }: Record<'variables' | 'sealedEnv' | 'secrets', Record<string, string>>,
  options: RunAppOptions,
  onOutput: (bytes: Uint8Array) => void,
): Promise<RunningApp> {
  const { config, notify, say, signal, resume = false } = options;
  const sockets: AgentSockets = { dstack: config.listen.dstackSock, tappd: config.listen.tappdSock };
  if (compose.runner === 'bash') {
    await notify('boot.progress', 'running main script');
    return await runBash(compose.bashScript ?? '', variables, config, say);
  }
  if (!resume) await notify('boot.progress', 'starting containers');
  const engineEnv = { ...variables, ...config.runner.engineEnv };
  const engine =
    config.root === '/' ? OWN_ENGINE : await chooseEngine(config.runner.engine, engineProbe(engineEnv));
  const composeText = compose.dockerComposeFile ?? '';
  const file = readComposeFile(composeText);
  const { logDir, project, ports } = config.runner;
  const { root, workDir, dataDir, runDir } = config;
  const folders = { root, workDir, dataDir, runDir, sockets };
  if (engine.name === 'process') {
    return await runProcesses({
      ...{ file, variables, sealedEnv, folders, logDir, signal, say },
      machineEnv: options.machineEnv,
      extraEnv: config.runner.env,
    });
  }
  // Containers mount the sockets, and their users may be anybody; the folder around them stays closed.
  for (const socket of Object.values(sockets)) await chmod(socket, CONTAINERS_MODE).catch(() => undefined);
  const { imagesDisk: disk } = config.runner;
  const images =
    disk === undefined || resume
      ? undefined
      : await loadImages({ disk, engine: imagesOf(engine, engineEnv, options), file, env: engineEnv, say });
  return await runEngine({
    resume,
    ...(images === undefined ? {} : { images }),
    ...{
      engine,
      composeText,
      file,
      sealedEnv,
      secrets,
      project,
      folders,
      ports,
      logDir,
      onOutput,
      signal,
      say,
    },
    env: engineEnv,
  });
}

/** A machine of its own has Docker at the usual place, unless the application says that its own is elsewhere. */
function imagesOf(
  engine: ContainerEngine,
  env: Readonly<Record<string, string>>,
  { config, signal }: RunAppOptions,
): EngineImages {
  const isOwn = config.root === '/' && Object.keys(engineVariables(env)).length === 0;
  return isOwn
    ? imagesByApi(dockerSocketPath({}), signal)
    : imagesByCommand({ engine: engine.name, env, signal });
}

/** Runner `bash`: the script is one service without a restart. */
async function runBash(
  script: string,
  env: Record<string, string>,
  config: GuestConfig,
  say: (line: string) => void,
): Promise<RunningApp> {
  const path = join(config.workDir, '.bash-script.sh');
  await writeFileAtomic(path, script);
  const service = new ProcessService({
    name: 'bash',
    argv: ['bash', path],
    cwd: config.workDir,
    env,
    restart: { when: 'never', max: 0 },
    stopSignal: 'SIGTERM',
    stopGraceMs: 8_000,
    log: new ServiceLog(join(config.runner.logDir, 'bash.log')),
    onChange: () => writeContainers(containersFile(config.runDir), [service]),
    say,
  });
  await service.start();
  return { services: ['bash'], stop: () => service.stop() };
}

async function readShared(
  directory: string,
  name: 'app-compose.json' | '.sys-config.json',
): Promise<Uint8Array> {
  return await readFileBounded(join(directory, name), HOST_SHARED_LIMITS[name]);
}

async function decryptedEnv(directory: string): Promise<Record<string, string>> {
  const path = join(directory, GUEST_FILES.decryptedEnvJson);
  const bytes = await readFileBounded(path, MAX_ENV_FILE, { noFollow: true });
  return table(z.string()).parse(JSON.parse(utf8Text(bytes)));
}
