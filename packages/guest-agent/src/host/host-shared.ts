import { join } from 'node:path';
import {
  type AppCompose,
  AppError,
  assertSupported,
  type ComposeHash,
  composeHash,
  HOST_SHARED_LIMITS,
  HOST_SHARED_REQUIRED,
  type HostSharedName,
  hostSharedCopies,
  type InstanceInfo,
  type MachineAbilities,
  parseAppCompose,
  parseInstanceInfo,
  parseSysConfig,
  readFileBounded,
  type SysConfig,
  writeFileAtomic,
} from '@dstack-cloud/app';
import { readComposeFile } from '@dstack-cloud/app/compose-file';
import { makeOwnDirectory } from '@dstack-cloud/files';
import { GuestError } from '../errors.ts';

/** What the host handed over, parsed; everything in it is untrusted until it is measured. */
export interface HostShared {
  /** Directory of the copies, `<work dir>/.host-shared`. */
  readonly directory: string;
  readonly compose: AppCompose;
  readonly composeHash: ComposeHash;
  readonly sysConfig: SysConfig;
  readonly instance: InstanceInfo;
  /** Sealed environment; undefined when there is none. */
  readonly encryptedEnv: Uint8Array | undefined;
  readonly userConfig: Uint8Array | undefined;
  /** The owner's word that this system may have what a TPM sealed to another. */
  readonly sealApproval: Uint8Array | undefined;
}

/** Where the guest keeps its copies. */
export const hostSharedCopy: (workDir: string) => string = hostSharedCopies;

/**
 * Copies the host-shared files into the work directory and parses the copies (docs/protocol/host-shared.md section 1).
 * Each source is read once, through one descriptor and with a bound; each copy is a new file of mode 0600, so neither a
 * host that writes meanwhile nor an older, longer copy can change what was measured.
 *
 * @throws GuestError `host-shared-invalid`
 */
export async function loadHostShared(
  source: string,
  workDir: string,
  machine: MachineAbilities,
): Promise<HostShared> {
  const directory = hostSharedCopy(workDir);
  ownDirectory(directory);
  const read = async (name: HostSharedName): Promise<Uint8Array | undefined> => {
    const bytes = await readSource(source, name);
    if (bytes !== undefined) await writeFileAtomic(join(directory, name), bytes);
    return bytes;
  };
  const app = required(await read('app-compose.json'));
  const sys = required(await read('.sys-config.json'));
  const instance = await read('.instance_info');
  const encryptedEnv = await read('.encrypted-env');
  const userConfig = await read('.user-config');
  const sealApproval = await read('.seal-approval.json');
  return await parsing(() => {
    const compose = parseAppCompose(app);
    assertSupported(compose, machine);
    if (compose.runner === 'docker-compose') readComposeFile(compose.dockerComposeFile ?? '');
    return {
      directory,
      compose,
      composeHash: composeHash(app),
      sysConfig: parseSysConfig(sys),
      instance: parseInstanceInfo(instance === undefined || instance.length === 0 ? '{}' : instance),
      encryptedEnv: encryptedEnv?.length ? encryptedEnv : undefined,
      userConfig,
      sealApproval,
    };
  });
}

async function readSource(source: string, name: HostSharedName): Promise<Uint8Array | undefined> {
  try {
    const options = { noFollow: true, label: 'Source file' };
    return await readFileBounded(join(source, name), HOST_SHARED_LIMITS[name], options);
  } catch (cause) {
    const missing = cause instanceof AppError && cause.code === 'file-missing';
    if (missing && !HOST_SHARED_REQUIRED.includes(name)) return undefined;
    throw new GuestError('host-shared-invalid', (cause as Error).message, { cause });
  }
}

function required(bytes: Uint8Array | undefined): Uint8Array {
  if (bytes === undefined) throw new GuestError('host-shared-invalid', 'A required source file is missing');
  return bytes;
}

async function parsing<T>(parse: () => T): Promise<T> {
  try {
    return parse();
  } catch (cause) {
    throw new GuestError('host-shared-invalid', (cause as Error).message, { cause });
  }
}

/** Copies go nowhere but into a folder of this guest's own. */
function ownDirectory(path: string): void {
  try {
    makeOwnDirectory(path);
  } catch (cause) {
    throw new GuestError('host-shared-invalid', (cause as Error).message, { cause });
  }
}
