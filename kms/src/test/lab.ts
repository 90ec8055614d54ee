import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  type CollateralSource,
  encodeAttestation,
  ratlsReportData,
  vendorRoots,
  withTdxRoot,
} from '@dstack-cloud/attestation';
import { generateP256Key, p256KeyPem } from '@dstack-cloud/keys';
import { OID } from '@dstack-cloud/ra-tls';
import { createPlatform, type SimulatedPlatform } from '@dstack-cloud/tee-simulator';
import { checkConfig } from '../config/check-config.ts';
import type { Trust } from '../evidence/trust.ts';
import { commitKeyFiles } from '../key-directory/commit.ts';
import type { KeyFileName } from '../key-directory/key-files.ts';
import { generateSharedKeys, issueRpcCertificate, keyFilesOf, keysFor } from '../key-directory/new-keys.ts';
import { type RunningKms, type StartOptions, startKms } from '../start-kms.ts';
import { createLog } from '../telemetry/log.ts';
import type { ClientIdentity } from './ask.ts';
import { forgeCertificate } from './forge-certificate.ts';
import { agentOf, type GuestIdentity, type SimulatedGuest, simulatedGuest } from './simulated-guest.ts';
import { startWebhook, type Webhook } from './webhook.ts';

export const LAB_NOW = 1_795_000_000;

/** A KMS in this process, on simulated hardware, with an auth API that the test commands. */
export type Lab = {
  readonly platform: SimulatedPlatform;
  readonly webhook: Webhook;
  readonly directory: string;
  readonly trust: Trust;
  /** Requests for collateral so far. */
  readonly collateralRequests: () => number;
  /** Starts a KMS; with keys unless the configuration wants onboarding. */
  start(overrides?: Overrides): Promise<RunningKms>;
  /** A client certificate with evidence of a guest, bound to its key. */
  client(guest: SimulatedGuest): ClientIdentity;
  guest(identity?: Partial<GuestIdentity>): SimulatedGuest;
  close(): Promise<void>;
};

type Overrides = {
  readonly core?: Record<string, unknown>;
  readonly rpc?: Record<string, unknown>;
  readonly options?: Partial<StartOptions>;
  readonly directory?: string;
  /** Keys already in the directory; true by default. */
  readonly keys?: boolean;
};

const INFO = {
  body: {
    status: 'ok',
    kmsContractAddr: '0x01',
    gatewayAppId: 'any',
    chainId: 31337,
    appImplementation: '0x02',
  },
};

export async function openLab(): Promise<Lab> {
  const platform = createPlatform(new Uint8Array(32).fill(5));
  const root = mkdtempSync(join(tmpdir(), 'kms-lab-'));
  const webhook = await startWebhook(INFO, { body: { isAllowed: true, gatewayAppId: 'any', reason: '' } });
  let requests = 0;
  const source = platform.collateralSource(() => LAB_NOW);
  const collateral: CollateralSource = {
    atHand: () => false,
    tdx: (request) => {
      requests += 1;
      return source.tdx(request);
    },
  };
  const trust: Trust = { roots: withTdxRoot(vendorRoots(), platform.rootDer), collateral, simulated: true };
  const guest = (identity: Partial<GuestIdentity> = {}): SimulatedGuest =>
    simulatedGuest({ platform, ...identity });
  const started: RunningKms[] = [];
  let directories = 0;
  return {
    platform,
    webhook,
    directory: root,
    trust,
    collateralRequests: () => requests,
    guest,
    client: (workload) => {
      const key = generateP256Key();
      const content = encodeAttestation(workload.attest(ratlsReportData(key.spki)));
      return { cert: forgeCertificate(key, [{ oid: OID.attestation, content }]), key: p256KeyPem(key) };
    },
    async start({ core = {}, rpc = {}, options = {}, directory, keys = true } = {}) {
      const certDir = directory ?? join(root, `kms-${directories++}`);
      if (keys && directory === undefined) await commitKeyFiles(certDir, await labKeys());
      const config = checkConfig(
        {
          rpc: { address: '127.0.0.1', port: 0, ...rpc },
          core: {
            cert_dir: certDir,
            auth_api: { type: 'webhook', webhook: { url: webhook.url } },
            rate_limit: { enabled: false },
            onboard: { address: '127.0.0.1', port: 0 },
            ...core,
          },
        },
        {},
      );
      const running = await startKms(config, {
        log: createLog('silent'),
        now: () => LAB_NOW,
        agent: agentOf(guest({ appId: new Uint8Array(20).fill(0xc1), image: 'kms-test' })),
        trust,
        ...options,
      });
      started.push(running);
      return running;
    },
    async close() {
      await Promise.all(started.map((running) => running.close()));
      webhook.close();
      rmSync(root, { recursive: true, force: true });
    },
  };
}

/** Files of a fresh key directory for `localhost`. */
export async function labKeys(): Promise<Map<KeyFileName, Uint8Array>> {
  const keys = keysFor(generateSharedKeys(), 'localhost', LAB_NOW);
  return keyFilesOf(keys, await issueRpcCertificate(keys, LAB_NOW, undefined));
}
