import { chmod, mkdir, rm, symlink } from 'node:fs/promises';
import { join } from 'node:path';
import {
  type AppKeysFile,
  checkMrConfigId,
  checkRequirements,
  GUEST_FILES,
  keyProviderInfo,
  removeBootSecrets,
  serializeAppKeys,
  serializeInstanceInfo,
  writeFileAtomic,
} from '@dstack-cloud/app';
import { EVENT } from '@dstack-cloud/attestation';
import type { EvidenceDevice } from '@dstack-cloud/attestation/attester';
import { equalBytes, toHex } from '@dstack-cloud/encoding';
import type { KeyName } from '@dstack-cloud/ra-tls';
import { tdReportOf } from '../agent/measurements.ts';
import { peerTrustOf, peerVerifier } from '../agent/peer-verifier.ts';
import { type GuestConfig, machineAbilities } from '../config/guest-config.ts';
import { GuestError } from '../errors.ts';
import type { NotifyHost } from '../host/host-api.ts';
import { type HostShared, loadHostShared } from '../host/host-shared.ts';
import { hostTransport } from '../host/host-transport.ts';
import type { Logger } from '../log.ts';
import { osRelease } from '../machine/system-info.ts';
import { requireShell } from '../script/source-script.ts';
import { attachedGpus } from './attached-gpus.ts';
import type { MachineHost } from './disk/machine-host.ts';
import type { DiskKey } from './disk/storage.ts';
import { type NamedEnvKey, writeEnvironment } from './environment.ts';
import { requireUnmeasured } from './fresh-machine.ts';
import { seedFromHost } from './host-seed.ts';
import { type Identities, identities } from './identities.ts';
import { runInitScripts } from './init-scripts.ts';
import { readKeyState, writeKeyState } from './key-state.ts';
import { keysFromKms } from './kms-keys.ts';
import type { MachineSteps } from './machine-steps.ts';
import { type Measure, measureIdentities, measurer } from './measure.ts';
import { patiently } from './patient-kms.ts';
import { waitForTime } from './secure-time.ts';
import { keysFromSeed, keysWithoutProvider } from './seed-keys.ts';
import { measureStorage, storageOf, writeAgentConfig } from './storage-of.ts';
import { seedFromTpm } from './tpm-seed.ts';

/** What a boot works with. */
export interface PrepareOptions {
  readonly config: GuestConfig;
  /** Opens the evidence device; the text is asked for with each piece of evidence. */
  readonly openDevice: (vmConfig: () => string) => Promise<EvidenceDevice>;
  readonly notify: NotifyHost;
  readonly log: Logger;
  /** Where the machine is one of its own; undefined where a directory stands for it. */
  readonly machine?: MachineSteps;
  /** What the storage is opened with; default this machine. */
  readonly host?: MachineHost;
}

/** What a boot ended with. */
export interface Prepared {
  readonly identities: Identities;
  readonly keyProvider: string;
}

/**
 * Boots the guest up to the point where the agent and the application can start. Every failure ends the boot; nothing falls back to weaker keys, an empty environment or unmeasured files.
 *
 * @throws GuestError, AppError
 */
export async function prepare(options: PrepareOptions): Promise<Prepared> {
  let vmConfig = '';
  const device = await options.openDevice(() => vmConfig);
  // First of all: nothing of a machine that is already measured may be replaced.
  await requireUnmeasured(device);
  const { workDir, hostShared } = options.config;
  forgetEarlierBoot(workDir);
  try {
    const shared = await readShared(options, hostShared, workDir);
    vmConfig = shared.sysConfig.vmConfig;
    return await boot(options, device, shared);
  } catch (error) {
    // A boot that failed leaves nothing for whoever starts a program all the same.
    forgetEarlierBoot(workDir);
    throw error;
  }
}

async function readShared(
  { config, machine }: PrepareOptions,
  source: string,
  workDir: string,
): Promise<HostShared> {
  try {
    await machine?.attachShared();
    return await loadHostShared(source, workDir, machineAbilities(config));
  } finally {
    await machine?.detachShared();
  }
}

/** Removes keys, environment and user configuration; nothing of an earlier boot may pass for this one's. */
function forgetEarlierBoot(workDir: string): void {
  try {
    removeBootSecrets(workDir);
  } catch (cause) {
    throw new GuestError('host-shared-invalid', (cause as Error).message, { cause });
  }
}

async function boot(options: PrepareOptions, device: EvidenceDevice, shared: HostShared): Promise<Prepared> {
  const { config, notify, log } = options;
  const { compose, sysConfig } = shared;
  const storage = storageOf(config, log, options.host);
  const diskKey = await storage.check();
  if (compose.secureTime) await waitForTime(config.root, log);
  const facts = {
    platform: device.mode,
    osVersion: osRelease(config.root).get('VERSION_ID'),
    userConfig: shared.userConfig,
    gpus: attachedGpus(config.root),
  };
  checkRequirements(compose, facts);
  requireShell(compose);
  const ids = identities(compose, shared.composeHash, shared.instance);
  const measure = measurer(device, compose.eventLogVersion);
  await measureIdentities(measure, compose, shared.composeHash, ids);
  await notify('boot.progress', 'requesting app keys');
  const held = diskKey ?? (await readKeyState(config.dataDir, ids.appId));
  const provided = await provideKeys(options, shared, { ids, held }, device, measure);
  await checkProvider(shared, ids, device, provided);
  await measure(EVENT.keyProvider, keyProviderInfo(compose.keyProvider, provided.providerId));
  await writeFileAtomic(join(shared.directory, GUEST_FILES.appKeys), serializeAppKeys(provided.keys));
  await notify('boot.progress', 'initializing data disk');
  await measureStorage(compose, measure);
  const { keys, name, olderDiskKeys = [] } = provided;
  await storage.open(compose, [{ key: keys.diskCryptKey, name }, ...olderDiskKeys]);
  // The engine takes a while to start: meanwhile the boot goes on. Init scripts may change what it finds.
  if (compose.initScripts.length === 0) await options.machine?.startEngine(sysConfig);
  await notify('instance.info', serializeInstanceInfo(ids.info));
  await measure(EVENT.systemReady);
  await notify('boot.progress', 'data disk ready');
  const { directory, encryptedEnv } = shared;
  const { envKeys } = provided;
  const { allowedEnvs } = compose;
  const opened = await writeEnvironment({ directory, encryptedEnv, envKeys, allowedEnvs, log });
  // Without an encrypted disk the environment is all that an older key may still be needed for.
  if (name !== undefined) await writeKeyState(config.dataDir, ids.appId, opened ?? name);
  await writeAgentConfig(config, config.pccsUrl ?? sysConfig.pccsUrl);
  await linkFiles(config, shared);
  await runInitScripts(compose, config, notify);
  if (compose.initScripts.length > 0) await options.machine?.startEngine(sysConfig);
  log.info({ app_id: toHex(ids.appId), instance_id: toHex(ids.instanceId) }, 'Machine is prepared');
  return { identities: ids, keyProvider: compose.keyProvider };
}

interface ProvidedKeys {
  readonly keys: AppKeysFile;
  readonly providerId: Uint8Array;
  /** Which keys these are; undefined when they are not a KMS's. */
  readonly name?: KeyName;
  /** The present environment key first, then older ones. */
  readonly envKeys: readonly NamedEnvKey[];
  /** Of a key service, from the held ones on. */
  readonly olderDiskKeys?: readonly DiskKey[];
}

async function provideKeys(
  { config, log }: PrepareOptions,
  { compose, sysConfig, sealApproval }: HostShared,
  { ids: { appId }, held }: { readonly ids: Identities; readonly held: KeyName | undefined },
  device: EvidenceDevice,
  measure: Measure,
): Promise<ProvidedKeys> {
  const now = Math.floor(Date.now() / 1000);
  if (compose.keyProvider === 'none') {
    return { keys: await keysWithoutProvider(device, now), providerId: new Uint8Array(0), envKeys: [] };
  }
  if (compose.keyProvider === 'tpm') {
    const seed = await seedFromTpm({
      config,
      device,
      approver: compose.sealApprovalKey,
      approval: sealApproval,
      log,
    });
    let providerId: Uint8Array = new Uint8Array(0);
    const keys = await keysFromSeed(device, now, seed, (key, pubkey) => {
      providerId = pubkey;
      return { kind: 'tpm', key, pubkey };
    });
    return { keys, providerId, envKeys: [] };
  }
  if (compose.keyProvider === 'local') {
    const host = hostTransport(config.hostApiUrl);
    const trust = await peerTrustOf(config, sysConfig);
    const { seed, mrEnclave } = await seedFromHost({ host, device, trust, log });
    const keys = await keysFromSeed(device, now, seed, (key) => ({ kind: 'local', key, mr: mrEnclave }));
    return { keys, providerId: mrEnclave, envKeys: [] };
  }
  const input = {
    urls: sysConfig.kmsUrls,
    device,
    vmConfig: sysConfig.vmConfig,
    verify: peerVerifier(await peerTrustOf(config, sysConfig)),
    requireAttestation: config.requireKmsAttestation,
    keyProviderId: compose.keyProviderId,
    held,
    appId,
    log,
  };
  // A directory that stands for a machine belongs to somebody who waits for an answer.
  const patient = config.root === '/' && sysConfig.kmsUrls.length > 0;
  const { keys, name, previous, providerId, mrKms, osImageHash } = patient
    ? await patiently(() => keysFromKms(input), log)
    : await keysFromKms(input);
  // Only now: an attempt that failed must leave no event in RTMR3.
  if (mrKms !== undefined) await measure(EVENT.mrKms, mrKms);
  await measure(EVENT.osImageHash, osImageHash);
  const newestFirst = [...previous].reverse();
  const envKeys = [{ name, key: keys.envCryptKey }, ...newestFirst];
  const olderDiskKeys = newestFirst.map((older) => ({ name: older.name, key: older.diskKey }));
  return { keys, providerId, name, envKeys, olderDiskKeys };
}

/** The provider must be the pinned one, and the one that the machine was started for. */
async function checkProvider(
  { compose, composeHash }: HostShared,
  { appId }: Identities,
  device: EvidenceDevice,
  { keys, providerId }: ProvidedKeys,
): Promise<void> {
  if (keys.diskCryptKey.length === 0)
    throw new GuestError('keys-invalid', 'The key provider gave no disk key');
  if (compose.keyProviderId.length > 0 && !equalBytes(compose.keyProviderId, providerId)) {
    throw new GuestError(
      'key-provider-mismatch',
      'The key provider is not the one that key_provider_id names',
      {
        expected: toHex(compose.keyProviderId),
        found: toHex(providerId),
      },
    );
  }
  const { mrConfigId } = tdReportOf(await device.attest(new Uint8Array(64)));
  const { keyProvider } = compose;
  checkMrConfigId(mrConfigId, { composeHash, appId, keyProvider, keyProviderId: providerId });
}

/** Links and directories that scripts in the guest expect. */
async function linkFiles(config: GuestConfig, shared: HostShared): Promise<void> {
  const link = async (name: string, target: string): Promise<void> => {
    const path = join(config.workDir, name);
    await rm(path, { force: true });
    await symlink(join(shared.directory, target), path);
  };
  await link('app-compose.json', 'app-compose.json');
  if (shared.userConfig !== undefined) await link('user_config', '.user-config');
  // The second location of the agent's sockets, which every container may look into.
  const sockets = join(config.runDir, 'dstack');
  await mkdir(sockets, { recursive: true });
  await chmod(sockets, 0o755);
}
