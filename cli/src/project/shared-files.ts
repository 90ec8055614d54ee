import { chmod, lstat, mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import {
  AppError,
  asAppId,
  composeHash,
  defaultAppId,
  HOST_SHARED_LIMITS,
  type HostSharedName,
  instanceId,
  readFileBounded,
  serializeInstanceInfo,
  serializeSysConfig,
  writeFileAtomic,
} from '@dstack-cloud/app';
import { fromHex, toHex, utf8 } from '@dstack-cloud/encoding';
import type { GlobalConfig } from '../config/global-config.ts';
import type { Context } from '../context.ts';
import { CliError } from '../errors.ts';
import type { Project } from './app-config.ts';
import { appPolicyHash } from './app-policy-hash.ts';
import { composeBytes } from './compose-bytes.ts';
import { osImage } from './os-image.ts';
import { handedFilePath } from './project-path.ts';

/** Everything that a machine gets from its host, and the identities that follow from it. */
export interface Prepared {
  readonly files: Partial<Record<HostSharedName, Uint8Array>>;
  readonly composeHash: string;
  /** What the app contract has to allow: the compose hash, or on Nitro the hash of the image. */
  readonly appPolicyHash: string;
  /** The effective app id: only with a KMS does app.json decide it . */
  readonly appId: string;
  /** Empty when the app has no instance id, undefined when the guest draws it. */
  readonly instanceId: string | undefined;
  readonly osImageHash: string;
  readonly allowedEnvs: readonly string[];
  readonly warnings: readonly string[];
  /** Why the application could not start; nothing is wrong with the files themselves. */
  readonly blockers: readonly string[];
}

/** Computes the host-shared files without the sealed environment; writes nothing. */
export async function prepareShared(
  context: Context,
  config: GlobalConfig,
  project: Project,
): Promise<Prepared> {
  if (project.problem !== undefined) throw project.problem;
  const app = project.config;
  const compose = await composeBytes(project);
  const hash = composeHash(compose.bytes);
  const appId = app.key_provider === 'kms' ? requireHex(app.app_id, 'app_id') : toHex(defaultAppId(hash));
  const seed = requireHex(app.instance_id_seed, 'instance_id_seed');
  const image = await osImage(context, config, project);
  const info = {
    instanceIdSeed: fromHex(seed),
    instanceId: undefined,
    appId: asAppId(fromHex(app.app_id ?? appId)),
  };
  const files: Partial<Record<HostSharedName, Uint8Array>> = {
    'app-compose.json': compose.bytes,
    '.sys-config.json': serializeSysConfig({
      kmsUrls: app.key_provider === 'kms' ? config.services.kms_urls : [],
      gatewayUrls: config.services.gateway_urls,
      pccsUrl: config.services.pccs_url || undefined,
      amdKdsUrl: config.services.amd_kds_url || undefined,
      dockerRegistry: undefined,
      hostApiUrl: undefined,
      vmConfig: image.vmConfig,
    }),
    '.instance_info': utf8(serializeInstanceInfo(info)),
  };
  for (const name of ['.user-config', '.seal-approval.json'] as const) {
    const bytes = await readHanded(project.directory, name);
    if (bytes !== undefined) files[name] = bytes;
  }
  return {
    files,
    composeHash: toHex(hash),
    appPolicyHash: appPolicyHash(app.platform === 'nitro', {
      composeHash: toHex(hash),
      osImageHash: image.hash,
    }),
    appId,
    instanceId: predictInstanceId(app.no_instance_id, app.key_provider, seed, appId),
    osImageHash: image.hash,
    allowedEnvs: compose.allowedEnvs,
    warnings: compose.warnings,
    blockers: compose.blockers,
  };
}

/** Writes the files into the project's `shared/`; an environment that is gone does not stay behind. */
export async function writeShared(project: Project, files: Prepared['files']): Promise<void> {
  const directory = await sharedFolder(project);
  for (const name of Object.keys(HOST_SHARED_LIMITS) as HostSharedName[]) {
    const bytes = files[name];
    if (bytes === undefined) await rm(join(directory, name), { force: true });
    else await writeFileAtomic(join(directory, name), bytes, { mode: 0o600 });
  }
}

/** `shared/`, a folder of the project's own: through a link, which can come with a copy, another's files would be lost. */
async function sharedFolder(project: Project): Promise<string> {
  const directory = join(project.directory, 'shared');
  await mkdir(directory, { mode: 0o700 }).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'EEXIST') throw error;
  });
  const status = await lstat(directory);
  if (!status.isDirectory())
    throw new CliError('exists', `${directory} is no folder, so nothing was written`, {
      expected: 'a folder, not a link to one',
      hint: `Remove ${directory}; it is made again`,
    });
  // What lies in it is for the machine's host alone.
  await chmod(directory, 0o700);
  return directory;
}

function predictInstanceId(
  noInstanceId: boolean,
  provider: string,
  seed: string,
  appId: string,
): string | undefined {
  if (noInstanceId) return '';
  if (provider === 'none') return undefined;
  return toHex(instanceId(fromHex(seed), asAppId(fromHex(appId))));
}

async function readHanded(
  directory: string,
  name: '.user-config' | '.seal-approval.json',
): Promise<Uint8Array | undefined> {
  const path = await handedFilePath(directory, name);
  try {
    return await readFileBounded(path, HOST_SHARED_LIMITS[name]);
  } catch (cause) {
    if (cause instanceof AppError && cause.code === 'file-missing') return undefined;
    throw new CliError('bad_app_json', `${path} cannot be used: ${(cause as Error).message}`, { cause });
  }
}

function requireHex(value: string | undefined, name: string): string {
  if (value !== undefined) return value;
  throw new CliError('bad_app_json', `app.json has no ${name}`, {
    hint: `Add "${name}": 40 random hex digits (dstack-cloud new writes one)`,
  });
}
