import { join } from 'node:path';
import {
  composeHash,
  GUEST_FILES,
  HOST_SHARED_LIMITS,
  parseAppCompose,
  parseAppKeys,
  parseSysConfig,
  readFileBounded,
} from '@dstack-cloud/app';
import { EVENT, findEvent } from '@dstack-cloud/attestation';
import type { EvidenceDevice } from '@dstack-cloud/attestation/attester';
import { equalBytes, toHex, utf8Text } from '@dstack-cloud/encoding';
import type { GuestConfig } from '../config/guest-config.ts';
import { GuestError } from '../errors.ts';
import { hostSharedCopy } from '../host/host-shared.ts';
import type { Logger } from '../log.ts';
import type { Agent } from './agent.ts';
import { type CertificateSigner, localSigner } from './certificate-signer.ts';
import { attestKeys, BackgroundDemoCertificate } from './demo-certificate.ts';
import { FixtureDevice } from './fixture-device.ts';
import { kmsSigner } from './kms-signer.ts';
import { LocalEvidence } from './local-evidence.ts';
import { peerTrustOf, peerVerifier } from './peer-verifier.ts';

const MAX_KEYS_FILE = 256 * 1024;
const MAX_FIXTURE = 16 * 1024 * 1024;

/** What an agent is made with. */
export interface CreateAgentOptions {
  readonly config: GuestConfig;
  readonly openDevice: (vmConfig: () => string) => Promise<EvidenceDevice>;
  readonly log: Logger;
  /** Unix seconds. */
  readonly now?: () => number;
}

/** The agent and what has to end with it. */
export interface CreatedAgent {
  readonly agent: Agent;
  close(): Promise<void>;
}

/**
 * Reads what the boot left (or the files of a fixture) and opens the device.
 *
 * @throws AppError when a file is missing or wrong: an agent without keys does not start
 */
export async function createAgent(options: CreateAgentOptions): Promise<CreatedAgent> {
  const { config, log } = options;
  const now = options.now ?? (() => Math.floor(Date.now() / 1000));
  const paths = filePaths(config);
  const composeBytes = await readFileBounded(paths.compose, HOST_SHARED_LIMITS['app-compose.json']);
  const sys = parseSysConfig(await readFileBounded(paths.sys, HOST_SHARED_LIMITS['.sys-config.json']));
  const keys = parseAppKeys(await readFileBounded(paths.keys, MAX_KEYS_FILE));
  const device = await openEvidence(options, sys.vmConfig);
  if (config.simulator === undefined) await requireMeasured(device, composeBytes);
  const composeText = utf8Text(composeBytes);
  const local = new LocalEvidence(device, composeText);
  const { keyProvider, caCert } = keys;
  const signer: CertificateSigner & { close?(): void } =
    keyProvider.kind === 'kms'
      ? kmsSigner({
          provider: keyProvider,
          caCert,
          device,
          vmConfig: sys.vmConfig,
          verify: peerVerifier(await peerTrustOf(config, sys)),
          evidence: config.requireKmsAttestation ? 'required' : 'if-present',
          now,
        })
      : localSigner(caCert, keyProvider.key, local, now);
  const agent: Agent = {
    config,
    keys,
    compose: parseAppCompose(composeBytes),
    composeText,
    vmConfig: sys.vmConfig,
    device,
    fixture: config.simulator !== undefined,
    local,
    signer,
    demoCertificate: new BackgroundDemoCertificate(signer, attestKeys(device), log),
    log,
    now,
  };
  return {
    agent,
    close: async () => {
      signer.close?.();
      await device.close?.();
    },
  };
}

/** The compose file that is shown and obeyed must be the one that was measured in this boot. */
async function requireMeasured(device: EvidenceDevice, composeBytes: Uint8Array): Promise<void> {
  const measured = findEvent(await device.events(), EVENT.composeHash);
  const found = composeHash(composeBytes);
  if (measured !== undefined && equalBytes(measured, found)) return;
  throw new GuestError(
    'evidence-failed',
    'app-compose.json is not the one that was measured; prepare the machine first',
    {
      expected: measured === undefined ? 'a measured machine' : toHex(measured),
      found: toHex(found),
    },
  );
}

function filePaths({ simulator, workDir }: GuestConfig): { compose: string; sys: string; keys: string } {
  if (simulator !== undefined) {
    return { compose: simulator.composeFile, sys: simulator.sysConfigFile, keys: simulator.keysFile };
  }
  const directory = hostSharedCopy(workDir);
  return {
    compose: join(directory, 'app-compose.json'),
    sys: join(directory, '.sys-config.json'),
    keys: join(directory, GUEST_FILES.appKeys),
  };
}

async function openEvidence(
  { config, openDevice }: CreateAgentOptions,
  vmConfig: string,
): Promise<EvidenceDevice> {
  const { simulator } = config;
  if (simulator === undefined) return await openDevice(() => vmConfig);
  const file = await readFileBounded(simulator.attestationFile, MAX_FIXTURE);
  return new FixtureDevice(file, { patchReportData: simulator.patchReportData });
}
