/**
 * Key services in simulated machines without a VMM or a chain: what they need of the world stands on loopback and can
 * be made to fail. A service starts in a third of a second, so tests can start many.
 */
import { randomBytes } from 'node:crypto';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fromHex } from '@dstack-cloud/encoding';
import { build } from '@dstack-cloud/scripts/build';
import { collateralServer, createPlatform, type SimulatedPlatform } from '@dstack-cloud/tee-simulator';
import { type Answer, callKms, getPlain } from './call-kms.ts';
import { type KmsProcess, type KmsRun, runKms } from './kms-process.ts';
import { type Relay, startRelay } from './loopback-server.ts';
import { startMachineAgent } from './machine-agent.ts';
import { type PolicyWebhook, startPolicyWebhook } from './policy-webhook.ts';
import { clientIdentity, type Tampering, type Workload } from './simulated-workload.ts';

type Table = { [key: string]: unknown };

/** A machine with a key service in it; its key directory outlives the runs. */
export type KmsHost = {
  readonly directory: string;
  readonly certDir: string;
  readonly configFile: string;
  /** What the program must have in its environment. */
  readonly environment: Record<string, string>;
  readonly workload: Workload;
  /** Told before the machine's agent answers. */
  onAgentCall: ((method: string) => Promise<void> | void) | undefined;
  /** Starts the program and returns at once. */
  run(options?: Pick<KmsRun, 'env' | 'preload' | 'args'>): KmsProcess;
  /** Starts it and waits until it serves. */
  serve(options?: Pick<KmsRun, 'env' | 'preload'>): Promise<KmsProcess>;
};

/** The CA whose key everybody may have, PEM. */
export type TempCa = { readonly tempCaCert: string; readonly tempCaKey: string };

export type KmsLab = {
  readonly directory: string;
  readonly hardware: SimulatedPlatform;
  /** Seed of that hardware and its root, for programs that simulate it themselves. */
  readonly seedFile: string;
  readonly rootFile: string;
  /** The collateral service, seen through a relay that counts. */
  readonly pccs: Relay;
  readonly webhook: PolicyWebhook;
  /** A machine of this name; `config` is merged over a configuration that bootstraps by itself and asks the webhook. */
  host(name: string, config?: Table): Promise<KmsHost>;
  /** Certificate and key of a workload at a running service. */
  identity(
    kms: KmsProcess,
    workload: Workload,
    tampering?: Tampering,
  ): Promise<{ cert: string; key: string }>;
  stop(): Promise<void>;
};

const IMAGE = 'dstack-sim-0.6.0';

/** @param parent where its folder is made */
export async function startKmsLab(parent: string = tmpdir()): Promise<KmsLab> {
  await build();
  const directory = mkdtempSync(join(parent, 'kms-'));
  const seed = new Uint8Array(randomBytes(32));
  const seedFile = join(directory, 'seed');
  writeFileSync(seedFile, seed, { mode: 0o600 });
  const hardware = createPlatform(seed, { machine: 'lab' });
  const collateral = await collateralServer(hardware);
  const pccs = await startRelay(collateral.url);
  const webhook = await startPolicyWebhook();
  const rootFile = join(directory, 'root.pem');
  writeFileSync(rootFile, hardware.rootPem);
  const running: { stop: (signal: NodeJS.Signals) => Promise<unknown> }[] = [];
  const closing: (() => Promise<void>)[] = [collateral.close, pccs.close, webhook.close];

  async function host(name: string, config: Table = {}): Promise<KmsHost> {
    const home = join(directory, name);
    const certDir = join(home, 'certs');
    mkdirSync(home);
    const instanceId = new Uint8Array(20);
    instanceId.set(new TextEncoder().encode(name).subarray(0, 20));
    const appId = new Uint8Array(20).fill(0xc5);
    const workload = { appId, composeHash: new Uint8Array(32).fill(0xc6), instanceId, image: IMAGE };
    const configFile = join(home, 'conf.json');
    writeFileSync(configFile, JSON.stringify(merge(defaults(certDir, rootFile), config)), { mode: 0o600 });
    const kmsHost: KmsHost = {
      directory: home,
      certDir,
      configFile,
      get environment() {
        return { DSTACK_AGENT_ADDRESS: agent.address };
      },
      workload,
      onAgentCall: undefined,
      run(options) {
        const env = { ...kmsHost.environment, ...options?.env };
        const kms = runKms({ configFile, directory: home, ...options, env });
        running.push(kms);
        return kms;
      },
      async serve(options) {
        const kms = kmsHost.run(options);
        await kms.until('dstack-kms started');
        return kms;
      },
    };
    const agent = await startMachineAgent({
      socket: join(home, 'agent.sock'),
      hardware,
      workload,
      onCall: (method) => kmsHost.onAgentCall?.(method),
    });
    closing.push(agent.close);
    return kmsHost;
  }

  function defaults(certDir: string, tdxRoot: string): Table {
    return {
      rpc: { address: '127.0.0.1', port: 0 },
      core: {
        cert_dir: certDir,
        onboard: { address: '127.0.0.1', port: 0, auto_bootstrap_domain: '127.0.0.1' },
        auth_api: { type: 'webhook', webhook: { url: webhook.url } },
        attestation: {
          insecure_allow_external_trust_anchors: true,
          urls: { pccs: pccs.url },
          root_ca: { tdx: tdxRoot },
        },
        // All test clients share one address; tests of the limits themselves switch them on.
        rate_limit: { enabled: false },
      },
    };
  }

  return {
    directory,
    hardware,
    seedFile,
    rootFile,
    pccs,
    webhook,
    host,
    async identity(kms, workload, tampering) {
      return clientIdentity({
        platform: hardware,
        workload,
        ...(await tempCa(kms)),
        ...(tampering === undefined ? {} : { tampering }),
      });
    },
    async stop() {
      await Promise.all(running.map((kms) => kms.stop('SIGKILL')));
      await Promise.all(closing.map((close) => close()));
      rmSync(directory, { recursive: true, force: true });
    },
  };
}

/** An app of the lab: any id and compose hash that differ by name. */
export function labWorkload(name: string, changes: Partial<Workload> = {}): Workload {
  const id = (length: number): Uint8Array => {
    const bytes = new Uint8Array(length).fill(0xa0);
    bytes.set(new TextEncoder().encode(name).subarray(0, length));
    return bytes;
  };
  return { appId: id(20), composeHash: id(32), instanceId: id(20), image: IMAGE, ...changes };
}

export async function tempCa(kms: Pick<KmsProcess, 'url'>): Promise<TempCa> {
  const answer = await callKms(kms.url, 'GetTempCaCert');
  const { temp_ca_cert: tempCaCert = '', temp_ca_key: tempCaKey = '' } = JSON.parse(answer.body);
  return { tempCaCert, tempCaKey };
}

/** `GetAppKey` by the documented call. */
export function getAppKey(kms: KmsProcess, identity?: { cert: string; key: string }): Promise<Answer> {
  return callKms(kms.url, 'GetAppKey', { api_version: 1, vm_config: '' }, identity);
}

/** The signed head of the audit log, as `verifyLog` takes it. */
export async function auditHead(
  kms: KmsProcess,
): Promise<{ publicKey: Uint8Array; signed: Record<string, unknown> }> {
  const head = JSON.parse((await callKms(kms.url, 'GetAuditHead')).body) as Record<string, string>;
  const { tree_size: size, root_hash: root, timestamp, signature, public_key: publicKey = '' } = head;
  return { publicKey: fromHex(publicKey), signed: { size, root, timestamp, signature } };
}

/** The text of `/metrics`. */
export async function metricsText(kms: KmsProcess): Promise<string> {
  return (await getPlain(kms.url, '/metrics')).body;
}

/** The value of a metric without labels. */
export async function metricOf(kms: KmsProcess, name: string): Promise<number> {
  const match = new RegExp(`^${name} (\\S+)$`, 'm').exec(await metricsText(kms));
  if (match === null) throw new Error(`No metric ${name}`);
  return Number(match[1]);
}

function merge(base: Table, over: Table): Table {
  const isTable = (value: unknown): value is Table =>
    typeof value === 'object' && value !== null && !Array.isArray(value);
  const result = { ...base };
  for (const [key, value] of Object.entries(over)) {
    const before = result[key];
    result[key] = isTable(before) && isTable(value) ? merge(before, value) : value;
  }
  return result;
}
