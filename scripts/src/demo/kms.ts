import { request } from 'node:https';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { composeHash, defaultAppId, serializeSysConfig, writeAppCompose } from '@dstack-cloud/app';
import { toHex } from '@dstack-cloud/encoding';
import { createCvm, freePort, startCvm } from '@dstack-cloud/vmm';
import type { Contracts } from './contracts.ts';
import { kmsCompose } from './kms-compose.ts';
import { simulatedVmConfig } from './simulated-vm-config.ts';
import type { Chain } from './start-chain.ts';
import type { Platform } from './start-platform.ts';
import type { Workspace } from './workspace.ts';

/** Name of the simulated OS image of every machine in the demo. */
export const IMAGE = 'dstack-sim-0.6.0';
const TIMEOUT_MS = 30_000;
/** One look whether a service answers. */
const PROBE_MS = 5_000;

export interface Kms {
  /** Before the keys exist: plain HTTP. */
  readonly onboardUrl: string;
  /** Afterwards, on the same port: RA-TLS. */
  readonly url: string;
  /** How long one answer may take; longer where QEMU emulates the processor that gives it. */
  readonly timeoutMs?: number;
}

/** What an operator registers on chain; hex without 0x. */
export interface KmsMeasurements {
  readonly osImageHash: string;
  readonly mrAggregated: string;
  readonly deviceId: string;
}

/** The answer of Bootstrap; hex without 0x. */
export interface KmsIdentity {
  readonly k256Pubkey: string;
  readonly caPubkey: string;
  readonly attestation: string;
}

interface BootOptions {
  readonly space: Workspace;
  readonly chain: Chain;
  readonly contracts: Contracts;
  readonly platform: Platform;
  readonly signal: AbortSignal;
  readonly note: (text: string) => void;
  readonly vtpmRootPem?: string | undefined;
  /** Added to the service's configuration; tests use it. */
  readonly extraConfig?: string;
  /** Environment of the service, not secret; tests use it. */
  readonly env?: Readonly<Record<string, string>>;
}

/** The key service runs as any application does: a compose file in a machine of its own, its keys on that disk. */
export async function bootKms(options: BootOptions): Promise<Kms> {
  const { space, platform } = options;
  const port = await freePort();
  const vmConfig = await simulatedVmConfig(IMAGE);
  const compose = writeAppCompose({
    name: 'dstack-kms',
    dockerComposeFile: kmsCompose({ ...options, port, rpcUrl: options.chain.rpcUrl }),
    gatewayEnabled: false,
    publicLogs: true,
    publicSysinfo: true,
    publicTcbinfo: true,
    keyProviderId: '',
    allowedEnvs: [],
    // One aggregated measurement for every boot of this machine.
    noInstanceId: true,
    secureTime: false,
    keyProvider: 'none',
    storageFs: 'ext4',
    preLaunchScript: '',
  });
  const dir = join(space.machines, 'kms');
  await createCvm({
    dir,
    name: 'dstack-kms',
    appId: toHex(defaultAppId(composeHash(compose))),
    image: IMAGE,
    shared: {
      'app-compose.json': compose,
      '.sys-config.json': serializeSysConfig({
        kmsUrls: [],
        gatewayUrls: [],
        pccsUrl: platform.pccsUrl,
        dockerRegistry: undefined,
        hostApiUrl: undefined,
        vmConfig,
      }),
    },
    seedFile: space.seedFile,
    machine: 'kms-host',
    rootCaTdx: space.rootFile,
    pccsUrl: platform.pccsUrl,
    ports: [{ host: port, guest: port }],
    ...(options.env === undefined ? {} : { env: options.env }),
    engine: 'process',
    owner: space.owner,
  });
  await startCvm(dir, { signal: options.signal, onProgress: options.note });
  const kms = { onboardUrl: `http://127.0.0.1:${port}`, url: `https://127.0.0.1:${port}` };
  await kmsListens(kms);
  return kms;
}

/** Waits until the service answers on its way to keys. */
export async function kmsListens(kms: Kms): Promise<void> {
  const health = async () =>
    (await fetch(`${kms.onboardUrl}/health`, { signal: AbortSignal.timeout(PROBE_MS) })).ok;
  await until('the key service', health, timeoutOf(kms));
}

const timeoutOf = ({ timeoutMs = TIMEOUT_MS }: Kms): number => timeoutMs;

/** What the KMS's own evidence says; registered on chain before it may make keys. */
export async function kmsAttestation(kms: Kms): Promise<KmsMeasurements> {
  const info = await call(kms, 'Onboard.GetAttestationInfo', {});
  return {
    osImageHash: text(info, 'os_image_hash'),
    mrAggregated: text(info, 'mr_aggregated'),
    deviceId: text(info, 'device_id'),
  };
}

/** The host's loopback as guests behind QEMU's NAT see it. */
export const VM_DOMAIN = '10.0.2.2';

/**
 * Makes the root keys; the policy on chain is asked first.
 *
 * @param domain name in the certificate of the key service: as its guests address it
 */
export async function bootstrapKms(kms: Kms, domain: string = '127.0.0.1'): Promise<KmsIdentity> {
  const answer = await call(kms, 'Onboard.Bootstrap', { domain });
  return {
    k256Pubkey: text(answer, 'k256_pubkey'),
    caPubkey: text(answer, 'ca_pubkey'),
    attestation: text(answer, 'attestation'),
  };
}

/** Ends onboarding and waits until the same port speaks RA-TLS. */
export async function finishKms(kms: Kms): Promise<void> {
  const answer = await fetch(`${kms.onboardUrl}/finish`, { signal: AbortSignal.timeout(timeoutOf(kms)) });
  if (!answer.ok) throw new Error(`finish: ${await answer.text()}`);
  await until('the key service', () => tlsHealth(kms.url), timeoutOf(kms));
}

async function call(kms: Kms, method: string, body: object): Promise<Record<string, unknown>> {
  const response = await fetch(`${kms.onboardUrl}/prpc/${method}?json`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(body),
    signal: AbortSignal.timeout(timeoutOf(kms)),
  });
  const answer = (await response.json()) as Record<string, unknown>;
  if (!response.ok) throw new Error(`${method}: ${String(answer['error'] ?? response.status)}`);
  return answer;
}

function text(answer: Record<string, unknown>, name: string): string {
  const value = answer[name];
  if (typeof value !== 'string' || value === '') throw new Error(`The key service gave no ${name}`);
  return value;
}

/** The root CA is learned from the chain by those who need to; this only asks whether somebody listens. */
async function tlsHealth(url: string): Promise<boolean> {
  return await new Promise((resolve, reject) => {
    const outgoing = request(`${url}/health`, { rejectUnauthorized: false, timeout: 2_000 }, (response) => {
      response.resume();
      response.once('end', () => resolve(response.statusCode === 200));
    });
    outgoing.once('timeout', () => outgoing.destroy(new Error('timed out')));
    outgoing.once('error', reject);
    outgoing.end();
  });
}

async function until(what: string, check: () => Promise<boolean>, timeoutMs: number): Promise<void> {
  const deadline = Date.now() + timeoutMs;
  let last = 'no answer';
  while (Date.now() < deadline) {
    try {
      if (await check()) return;
    } catch (error) {
      last = error instanceof Error ? error.message : String(error);
    }
    await sleep(50);
  }
  throw new Error(`${what} did not get ready: ${last}`);
}
