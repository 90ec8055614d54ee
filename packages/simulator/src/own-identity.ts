import { randomBytes } from 'node:crypto';
import { lstatSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import {
  GUEST_FILES,
  parseAppCompose,
  serializeAppKeys,
  serializeSysConfig,
  writeAppCompose,
  writeFileAtomic,
} from '@dstack-cloud/app';
import { makeOwnDirectory, requireOwnDirectory } from '@dstack-cloud/files';
import {
  type GuestConfig,
  keysWithoutProvider,
  type Logger,
  openConfiguredDevice,
  parseGuestConfig,
  prepare,
} from '@dstack-cloud/guest-agent';
import {
  collateralServer,
  createPlatform,
  SimulatorError,
  simulatedBoot,
  tsmEndpoint,
} from '@dstack-cloud/tee-simulator';

const IMAGE = 'dstack-simulated';
const SEED_BYTES = 32;
const MAX_COMPOSE = 256 * 1024;

/** A machine that was booted in a folder, and the simulated hardware that it needs. */
export interface OwnMachine {
  readonly config: GuestConfig;
  /** File with the test root that a verifier must be told to accept. */
  readonly rootFile: string;
  /** Where a verifier gets the collateral. */
  readonly collateralUrl: string;
  close(): Promise<void>;
}

export interface OwnMachineOptions {
  /** Folder of the state: seed and machine. */
  readonly state: string;
  readonly appCompose: string | undefined;
  /** Members of the guest's configuration that name its sockets. */
  readonly sockets: object;
  readonly log: Logger;
}

/**
 * Boots a simulated TDX machine: as a guest does, with its measurements, and with keys of the folder's seed, so that they
 * are the same at each start.
 *
 * @throws SimulatorError, GuestError, AppError
 */
export async function bootOwnMachine(options: OwnMachineOptions): Promise<OwnMachine> {
  const { state, log } = options;
  const compose = readCompose(options.appCompose);
  const seed = keptSeed(join(state, 'seed'));
  const root = freshMachine(join(state, 'machine'));
  const platform = createPlatform(seed);
  const boot = simulatedBoot({ image: IMAGE });
  const rootFile = join(state, 'simulated-root-ca.pem');
  writeFileSync(rootFile, platform.rootPem);
  const collateral = await collateralServer(platform);
  const socketPath = join(root, 'tsm.sock');
  const endpoint = await tsmEndpoint(platform, { image: IMAGE, boot, socketPath }).catch(
    async (error: unknown) => {
      await collateral.close();
      throw error;
    },
  );
  const close = async (): Promise<void> => {
    await endpoint.close();
    await collateral.close();
  };
  try {
    const shared = join(root, 'host-shared');
    mkdirSync(shared, { mode: 0o700 });
    writeFileSync(join(shared, 'app-compose.json'), compose);
    const sysConfig = serializeSysConfig({
      kmsUrls: [],
      gatewayUrls: [],
      pccsUrl: collateral.url,
      dockerRegistry: undefined,
      hostApiUrl: undefined,
      vmConfig: JSON.stringify(boot.vmConfig),
    });
    writeFileSync(join(shared, '.sys-config.json'), sysConfig);
    const tsm = `unix:${socketPath}`;
    const document = {
      root,
      host_shared: shared,
      run_dir: join(root, 'run'),
      devices: { tsm, rtmr: tsm, ccel: tsm },
      attestation: { root_ca: { tdx: rootFile }, urls: { pccs: collateral.url } },
      listen: options.sockets,
    };
    const config = parseGuestConfig(JSON.stringify(document), root);
    const openDevice = (vmConfig: () => string) => openConfiguredDevice(config, vmConfig);
    await prepare({ config, openDevice, notify: async () => undefined, log });
    await keepKeys(config, boot.vmConfig, seed);
    return { config, rootFile, collateralUrl: collateral.url, close };
  } catch (error) {
    await close();
    throw error;
  }
}

/** A boot without a key provider draws its keys; here those of the seed take their place. */
async function keepKeys(config: GuestConfig, vmConfig: object, seed: Uint8Array): Promise<void> {
  const device = await openConfiguredDevice(config, () => JSON.stringify(vmConfig));
  const keys = await keysWithoutProvider(device, Math.floor(Date.now() / 1000), new Uint8Array(seed));
  await writeFileAtomic(join(config.workDir, '.host-shared', GUEST_FILES.appKeys), serializeAppKeys(keys));
  await device.close?.();
}

function readCompose(file: string | undefined): Uint8Array {
  if (file === undefined) return defaultCompose();
  let bytes: Uint8Array;
  try {
    if (lstatSync(file).size > MAX_COMPOSE)
      throw new SimulatorError('argument', `${file} is larger than ${MAX_COMPOSE} bytes`);
    bytes = new Uint8Array(readFileSync(file));
  } catch (cause) {
    if (cause instanceof SimulatorError) throw cause;
    throw new SimulatorError('argument', `${file} cannot be read: ${(cause as Error).message}`, { cause });
  }
  const { keyProvider } = parseAppCompose(bytes);
  if (keyProvider !== 'none')
    throw new SimulatorError(
      'argument',
      `${file} has the key provider ${keyProvider}, and the simulator has none: set "key_provider": "none"`,
    );
  return bytes;
}

function defaultCompose(): Uint8Array {
  return writeAppCompose({
    name: 'simulated-app',
    // Nothing runs it: an application is whatever opens the socket.
    dockerComposeFile: 'services:\n  app:\n    image: simulated\n',
    gatewayEnabled: false,
    publicLogs: true,
    publicSysinfo: true,
    publicTcbinfo: true,
    keyProviderId: '',
    allowedEnvs: [],
    noInstanceId: false,
    secureTime: false,
    keyProvider: 'none',
    storageFs: 'ext4',
    preLaunchScript: '',
  });
}

/** The seed of a folder, made at the first start. @throws SimulatorError `state` */
function keptSeed(file: string): Uint8Array {
  const status = lstatSync(file, { throwIfNoEntry: false });
  if (status === undefined) {
    const seed = new Uint8Array(randomBytes(SEED_BYTES));
    writeFileSync(file, seed, { mode: 0o600, flag: 'wx' });
    return seed;
  }
  if (!status.isFile() || status.size !== SEED_BYTES)
    throw new SimulatorError(
      'state',
      `${file} is no seed of ${SEED_BYTES} bytes; remove it to get other keys`,
    );
  return new Uint8Array(readFileSync(file));
}

/** A start is a boot: what an earlier one left goes. */
function freshMachine(root: string): string {
  if (lstatSync(root, { throwIfNoEntry: false }) !== undefined) {
    requireOwnDirectory(root);
    rmSync(root, { recursive: true });
  }
  makeOwnDirectory(root);
  return root;
}
