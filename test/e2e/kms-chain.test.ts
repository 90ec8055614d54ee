/** A real KMS that reads a real chain through endpoints which lie, stand still or hang, or by a clock that is set back. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { verifyLog } from '@dstack-cloud/audit-log';
import { toHex } from '@dstack-cloud/encoding';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { errorOf } from '../harness/call-kms.ts';
import { chainPolicyConfig, type LabChain, startLabChain } from '../harness/kms-chain.ts';
import {
  auditHead,
  getAppKey,
  type KmsHost,
  type KmsLab,
  metricOf,
  startKmsLab,
} from '../harness/kms-lab.ts';
import { workersOf } from '../harness/kms-load.ts';
import type { KmsProcess } from '../harness/kms-process.ts';
import { type Relay, startRelay } from '../harness/loopback-server.ts';
import type { Workload } from '../harness/simulated-workload.ts';

const MAX_BLOCK_AGE_SECONDS = 3;
/** Each request sees a head read after it came. */
const EXACT = { head_reuse_ms: 0 };
/** Otherwise a head serves others for a moment, at most this long (core.auth_api.chain.head_reuse_ms). */
const HEAD_REUSE_MS = 1_000;

let lab: KmsLab;
let chain: LabChain;
let relays: [Relay, Relay, Relay];
let kms: KmsProcess;
let honest: Workload;

beforeAll(async () => {
  lab = await startKmsLab();
  chain = await startLabChain(lab, 1);
  const { rpcUrl } = chain.anvil;
  relays = [await startRelay(rpcUrl), await startRelay(rpcUrl), await startRelay(rpcUrl)];
  honest = await chain.registerApp('honest');
  const urls = relays.map(({ url }) => url);
  kms = await (await registered('quorum', urls)).serve();
}, 120_000);
afterAll(async () => {
  await Promise.all((relays ?? []).map((relay) => relay.close()));
  await chain?.stop();
  await lab?.stop();
});
beforeEach(() => {
  for (const relay of relays) Object.assign(relay, { mood: 'pass', rewrite: undefined });
});

/** A machine that may be a KMS and reads the chain through these endpoints. */
async function registered(name: string, rpcUrls: string[], more: object = EXACT): Promise<KmsHost> {
  const policy = chainPolicyConfig(chain, rpcUrls, { max_block_age: `${MAX_BLOCK_AGE_SECONDS}s`, ...more });
  const host = await lab.host(name, { core: { auth_api: policy } });
  await chain.registerKms(host);
  return host;
}

const ask = async (workload: Workload, of: KmsProcess = kms) =>
  getAppKey(of, await lab.identity(of, workload));
const pause = (seconds: number) => new Promise((resolve) => setTimeout(resolve, seconds * 1000));

/** From now on this endpoint says that the present block is the last. */
async function freeze(relay: Relay): Promise<void> {
  const block = await chain.client.public.getBlockNumber();
  relay.rewrite = (body) => body.replaceAll('"latest"', `"0x${block.toString(16)}"`);
}

describe('chain', () => {
  test('lying-rpc: one endpoint of three gives nobody keys, and takes them from nobody', async () => {
    const evil: Workload = { ...honest, appId: new Uint8Array(20).fill(0x66) };
    const [from, to] = [toHex(evil.appId), toHex(honest.appId)];
    for (const liar of relays) {
      // It answers for the unregistered app what the chain says of the honest one, then the reverse.
      liar.rewrite = (body) => body.replaceAll(from, to);
      expect(errorOf(await ask(evil))).toBe('App not allowed: Boot denied: App not registered');
      liar.rewrite = (body) => body.replaceAll(to, from);
      const answer = await ask(honest);
      expect(answer.status, answer.body).toBe(200);
      liar.rewrite = undefined;
    }
  });

  test('frozen-rpc: endpoints that hang or stand still do not keep a revoked app alive', async () => {
    const app = await chain.registerApp('frozen');
    const identity = await lab.identity(kms, app);
    expect((await getAppKey(kms, identity)).status).toBe(200);
    const [first, second, third] = relays;
    first.mood = 'hang';
    const started = Date.now();
    expect((await getAppKey(kms, identity)).status).toBe(200);
    expect(Date.now() - started).toBeLessThan(4_500);
    first.mood = 'pass';
    await freeze(first);
    await chain.setAllowed(app, false);
    expect(errorOf(await getAppKey(kms, identity))).toContain('Compose hash not allowed');
    // Two that stand still are a majority, but only until what they say is too old.
    await chain.setAllowed(app, true);
    await Promise.all([first, second].map(freeze));
    await chain.setAllowed(app, false);
    await pause(MAX_BLOCK_AGE_SECONDS + 1.5);
    expect((await getAppKey(kms, identity)).status).not.toBe(200);
    // None that answers is no permission either.
    for (const relay of [first, second, third]) Object.assign(relay, { mood: 'hang', rewrite: undefined });
    expect((await getAppKey(kms, identity)).status).not.toBe(200);
    for (const relay of relays) relay.mood = 'pass';
    expect(errorOf(await getAppKey(kms, identity))).toContain('Compose hash not allowed');
  });

  test('revoked-under-load: a revocation counts for all who ask later than the longest time a head is reused', async () => {
    const app = await chain.registerApp('busy');
    const busy = await (await registered('busy', [chain.anvil.rpcUrl], {})).serve();
    const identity = await lab.identity(busy, app);
    let isRevoked = false;
    let until = Number.POSITIVE_INFINITY;
    const late: number[] = [];
    const ask = async (): Promise<void> => {
      while (Date.now() < until) {
        const isLate = isRevoked && Date.now() > until - HEAD_REUSE_MS;
        const { status } = await getAppKey(busy, identity);
        if (isLate) late.push(status);
      }
    };
    const load = Promise.all([ask(), ask(), ask(), ask()]);
    await pause(0.5);
    await chain.setAllowed(app, false);
    isRevoked = true;
    until = Date.now() + 2 * HEAD_REUSE_MS;
    await load;
    expect(late.length).toBeGreaterThan(10);
    expect(new Set(late)).toEqual(new Set([400]));
    await busy.stop();
  });

  test('distant-endpoint: at a new block no recently used app waits for the chain', async () => {
    const relay = await startRelay(chain.anvil.rpcUrl);
    try {
      relay.delayMs = 200;
      const apps = [await chain.registerApp('far'), await chain.registerApp('farther')];
      const far = await (await registered('distant', [relay.url], { head_reuse_ms: 5_000 })).serve();
      const identities = await Promise.all(apps.map((app) => lab.identity(far, app)));
      const decisions = (result: string) =>
        metricOf(far, `dstack_kms_chain_decisions_total\\{result="${result}"\\}`);
      const askFor = async (blocks: bigint): Promise<void> => {
        const from = await chain.client.public.getBlockNumber();
        while ((await chain.client.public.getBlockNumber()) < from + blocks) {
          for (const identity of identities) expect((await getAppKey(far, identity)).status).toBe(200);
        }
      };
      await askFor(2n);
      const [cached, read] = [await decisions('cached'), await decisions('read')];
      await askFor(4n);
      const [later, more] = [(await decisions('cached')) - cached, (await decisions('read')) - read];
      // Without revalidation each block costs four: two apps, and the KMS itself for each. A busy machine may miss a moment.
      expect(later).toBeGreaterThan(4);
      expect(more).toBeLessThan(later / 4);
      expect(relay.seen.some(({ body }) => body.includes('eth_call'))).toBe(true);
      await far.stop();
    } finally {
      await relay.close();
    }
  });

  test('stale-chain-view: an old view gives nothing, also to an app that was always allowed', async () => {
    const relay = await startRelay(chain.anvil.rpcUrl);
    try {
      const alone = await (await registered('alone', [relay.url])).serve();
      const identity = await lab.identity(alone, honest);
      expect((await getAppKey(alone, identity)).status).toBe(200);
      await freeze(relay);
      await pause(MAX_BLOCK_AGE_SECONDS + 1.5);
      // Whoever watches sees it before anybody asks for keys.
      expect(await metricOf(alone, 'dstack_kms_onchain_sync_lag_seconds')).toBeGreaterThan(
        MAX_BLOCK_AGE_SECONDS,
      );
      expect(errorOf(await getAppKey(alone, identity))).toContain('on-chain state is stale');
      relay.rewrite = undefined;
      expect((await getAppKey(alone, identity)).status).toBe(200);
      await alone.stop();
    } finally {
      await relay.close();
    }
  });

  test('clock-jumps-back: an old clock makes no old view fresh, and the audit log goes on', async () => {
    const clock = join(lab.directory, 'clock-offset');
    const set = async (seconds: number, of: KmsProcess) => {
      writeFileSync(clock, String(seconds));
      for (const pid of [of.process.pid!, ...workersOf(of).values()]) process.kill(pid, 'SIGUSR2');
      await pause(0.1);
    };
    writeFileSync(clock, '0');
    const host = await registered('clock', [chain.anvil.rpcUrl]);
    const service = await host.serve({ preload: 'preload/clock.mjs', env: { TEST_CLOCK_FILE: clock } });
    const identity = await lab.identity(service, honest);
    expect((await getAppKey(service, identity)).status).toBe(200);
    await set(-1800, service);
    const refused = await getAppKey(service, identity);
    expect(errorOf(refused)).toMatch(/on-chain time is ahead of the local clock/);
    await set(1800, service);
    expect(errorOf(await getAppKey(service, identity))).toMatch(/on-chain state is stale/);
    await set(0, service);
    expect((await getAppKey(service, identity)).status).toBe(200);
    const head = await auditHead(service);
    expect(await service.stop()).toBe(0);
    const { records } = await verifyLog(join(host.certDir, 'audit'), head.publicKey, [head.signed]);
    // Two releases, and two refusals to the KMS itself between them.
    expect(records).toBe(4);
    const again = await host.serve();
    expect((await ask(honest, again)).status).toBe(200);
    await again.stop();
  });
});
