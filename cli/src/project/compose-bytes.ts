import {
  APP_COMPOSE_MEMBERS,
  type AppCompose,
  type AppComposeFields,
  assertKnown,
  type EnvVar,
  HOST_SHARED_LIMITS,
  parseAppCompose,
  readFileBounded,
  writeAppCompose,
} from '@dstack-cloud/app';
import { unknownKeys } from '../config/unknown-keys.ts';
import { CliError } from '../errors.ts';
import type { Project } from './app-config.ts';
import { checkComposeFile, type LintOptions, type LintResult } from './compose-lint.ts';
import { readEnvFile } from './env-file.ts';
import { publishedPath } from './project-path.ts';

/** What the compose hash is made of. */
export interface ComposeBytes {
  /** The exact bytes of `app-compose.json`. */
  readonly bytes: Uint8Array;
  readonly allowedEnvs: readonly string[];
  readonly warnings: readonly string[];
  /** Why the application could not start. */
  readonly blockers: readonly string[];
}

const MAX_TEXT_BYTES: number = HOST_SHARED_LIMITS['app-compose.json'];

/**
 * Makes `app-compose.json` of a project, byte for byte as the original would; `app_compose_file` ships a file as it is.
 * What a guest would refuse is refused here. Throws `bad_compose_file`, `file_missing`, `bad_env`.
 */
export async function composeBytes(project: Project): Promise<ComposeBytes> {
  const { config } = project;
  const env = await readEnvFile(project);
  const allowedEnvs = [...new Set([...config.allowed_envs, ...env.vars.map(({ key }) => key)])];
  if (config.app_compose_file !== '') return await shippedFile(project, env.vars, env.warnings);
  const compose = await readText(project, 'docker_compose_file');
  const script = await readText(project, 'prelaunch_script');
  const hasSealedEnv = env.vars.length > 0;
  const options = { directory: project.directory, hasSealedEnv, scripts: [script] };
  const { warnings, blockers } = checkComposeFile(compose, config.docker_compose_file, options);
  const fields: AppComposeFields = {
    name: config.name,
    dockerComposeFile: compose,
    gatewayEnabled: config.gateway_enabled,
    publicLogs: config.public_logs,
    publicSysinfo: config.public_sysinfo,
    publicTcbinfo: config.public_tcbinfo,
    keyProviderId: config.key_provider_id,
    allowedEnvs,
    noInstanceId: config.no_instance_id,
    secureTime: config.secure_time,
    keyProvider: guestKeyProvider(config),
    storageFs: config.storage_fs,
    preLaunchScript: script,
    // Without one the bytes are those of the original.
    ...(config.seal_approval_key === ''
      ? {}
      : { extra: { seal_approval_key: config.seal_approval_key.toLowerCase() } }),
  };
  const bytes = writeAppCompose(fields);
  if (bytes.length > MAX_TEXT_BYTES)
    throw new CliError('bad_compose_file', 'app-compose.json is too large for the guest', {
      expected: `at most ${MAX_TEXT_BYTES} bytes`,
      found: `${bytes.length} bytes`,
      hint: `Make ${config.docker_compose_file} or ${config.prelaunch_script} smaller`,
    });
  checkForGuest(bytes, 'app-compose.json');
  const marks = [
    ...(config.platform === 'gcp' && config.key_provider === 'local'
      ? ['Key provider local is tpm on Google Cloud: the vTPM of the machine seals the keys']
      : []),
    ...byteOrderMark(compose, config.docker_compose_file),
    ...byteOrderMark(script, config.prelaunch_script),
  ];
  return { bytes, allowedEnvs, warnings: [...marks, ...warnings, ...env.warnings], blockers };
}

/** A machine of Google's has no local key provider; its vTPM keeps keys there. */
function guestKeyProvider({ platform, key_provider }: Project['config']): Project['config']['key_provider'] {
  return platform === 'gcp' && key_provider === 'local' ? 'tpm' : key_provider;
}

async function shippedFile(
  project: Project,
  vars: readonly EnvVar[],
  warnings: readonly string[],
): Promise<ComposeBytes> {
  const name = project.config.app_compose_file;
  const bytes = await readFileBounded(await publishedPath(project, 'app_compose_file'), MAX_TEXT_BYTES);
  const { allowedEnvs, runner, dockerComposeFile, preLaunchScript, initScripts } = checkForGuest(bytes, name);
  const dropped = vars.filter(({ key }) => !allowedEnvs.includes(key)).map(({ key }) => key);
  if (dropped.length > 0)
    throw new CliError('bad_env', `${name} does not allow every variable of ${project.config.env_file}`, {
      expected: `names that allowed_envs of ${name} lists; the guest drops all others`,
      found: dropped.slice(0, 20).join(', '),
      hint: `Add the names to allowed_envs, or remove them from ${project.config.env_file}`,
    });
  const own = [...slips(bytes, name), ...warnings];
  if (runner !== 'docker-compose' || dockerComposeFile === undefined)
    return { bytes, allowedEnvs, warnings: own, blockers: [] };
  const scripts = [preLaunchScript ?? '', ...initScripts];
  const options = { ...project, hasSealedEnv: vars.length > 0, scripts };
  const found = checkShipped(dockerComposeFile, `docker_compose_file of ${name}`, options);
  return { bytes, allowedEnvs, warnings: [...found.warnings, ...own], blockers: found.blockers };
}

/** Members that no guest reads are measured and without effect; one that is nearly the name of another is a slip. */
function slips(bytes: Uint8Array, name: string): string[] {
  const members = JSON.parse(new TextDecoder().decode(bytes)) as Record<string, unknown>;
  return unknownKeys(members, { '': APP_COMPOSE_MEMBERS })
    .filter((text) => text.includes('did you mean'))
    .map((text) => `${name}: ${text}`);
}

/** The bytes of a shipped file are measured whatever they hold; only a deployment needs a compose file that can be read. */
function checkShipped(text: string, name: string, options: LintOptions): LintResult {
  try {
    return checkComposeFile(text, name, options);
  } catch (error) {
    if (!(error instanceof CliError)) throw error;
    return { warnings: [error.message], blockers: [error.message] };
  }
}

/** The checks of every guest; what a machine of the platform does beyond that is the platform's to say. */
function checkForGuest(bytes: Uint8Array, name: string): AppCompose {
  try {
    const compose = parseAppCompose(bytes);
    assertKnown(compose);
    return compose;
  } catch (error) {
    throw new CliError('bad_compose_file', `The guest would refuse ${name}`, { cause: error });
  }
}

function byteOrderMark(text: string, name: string): string[] {
  if (!text.startsWith('\ufeff')) return [];
  return [
    `${name} begins with a byte order mark, which becomes a part of the measured text: save it as UTF-8 without one if that is not meant`,
  ];
}

/** A text file of the project; a missing optional one is empty. */
async function readText(
  project: Project,
  member: 'docker_compose_file' | 'prelaunch_script',
): Promise<string> {
  const path = await publishedPath(project, member);
  const name = project.config[member];
  const required = member === 'docker_compose_file';
  let bytes: Uint8Array;
  try {
    bytes = await readFileBounded(path, MAX_TEXT_BYTES);
  } catch (error) {
    const missing = (error as { code?: string }).code === 'file-missing';
    if (missing && !required) return '';
    throw new CliError('file_missing', missing ? `${path} does not exist` : `${path} cannot be read`, {
      cause: error,
      hint: required ? `Write ${name}, or correct ${member} in app.json` : `Check ${name}`,
    });
  }
  try {
    // As the original reads it: a byte order mark is a part of the text.
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch (error) {
    throw new CliError('bad_compose_file', `${path} is no UTF-8 text`, { cause: error });
  }
}
