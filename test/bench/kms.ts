/**
 * Key release, whole: every request is judged, authorised on chain, recorded and derived as in production, over
 * many applications, which is checked at the end. The limit is a bare Node TLS server with the same settings,
 * certificates and answer size. Server alone on one core; load, chain and all else on the other.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { ratlsReportData } from '@dstack-cloud/attestation';
import { generateP256Key, p256KeyPem } from '@dstack-cloud/keys';
import { certificatePem, issuerOf, rootCa, rpcCertificate } from '@dstack-cloud/ra-tls';
import { callKms } from '../harness/call-kms.ts';
import { attest } from '../harness/simulated-workload.ts';
import { identityOf, registeredWorkload, type Stack } from '../harness/stack.ts';
import {
  assertEachDecided,
  assertEachDerived,
  assertRevocable,
  count,
  countAllowed,
  waitedForChain,
} from './load/kms-checks.ts';
import { CONCURRENCY, type Load, type LoadedKms, startLoadedKms } from './load/loaded-kms.ts';
import type { LoadReport } from './load/plan.ts';
import { bareServer, load } from './load/processes.ts';
import { type Goal, median, type Result } from './result.ts';

const ROUNDS = 3;
const POLL_MS = 100;
/** Until a load that was started has opened its connections. */
const START_TIMEOUT_MS = 60_000;
const WARM_UP_MS = 2_000;
const DURATION_MS = 4_000;
/** Where the flood comes from: another address of this machine, as an attacker has another one than the guests. */
const FLOOD_ADDRESS = '127.0.0.2';
const FLOOD_FACTOR = 5;
/** Share of the capacity for which valid clients ask during the flood: the core of the load is shared by both. */
const SHARE_UNDER_FLOOD = 0.6;

const GOALS = {
  fresh: { ratio: 0.5 },
  kept: { ratio: 0.04 },
  meta: { ratio: 0.5 },
  underFlood: { ratio: 0.5 },
  p99Ms: { atMost: 25 },
  residentMb: { atMost: 150 },
  /** Of a thousand requests. */
  chainWaits: { atMost: 1 },
  collateralCalls: { atMost: 0 },
} as const satisfies Record<string, Goal>;

export async function run(): Promise<Result[]> {
  const kms = await startLoadedKms();
  try {
    const before = await count(kms);
    const first = await callKms(
      kms.stack.kms.url,
      'GetAppKey',
      JSON.parse(kms.fresh.body),
      kms.identities[0],
    );
    if (first.status !== 200) throw new Error(`GetAppKey: ${first.body}`);
    const meta = await callKms(kms.stack.kms.url, 'GetMeta');
    const results = await measure(kms, Buffer.byteLength(first.body), Buffer.byteLength(meta.body));
    assertEachDecided(before, await count(kms), kms.released() + 1);
    await assertEachDerived(kms);
    await assertRevocable(kms);
    return results;
  } finally {
    await kms.stop();
  }
}

async function measure(kms: LoadedKms, keyBytes: number, metaBytes: number): Promise<Result[]> {
  const certificates = bareCertificates(kms.stack);
  const [keySized, metaSized] = await Promise.all(
    [keyBytes, metaBytes].map((answerBytes) => bareServer({ ...certificates, answerBytes })),
  );
  try {
    const { fresh, kept, meta, identities } = kms;
    const bare = (load: Load, port: number): Load => ({ ...load, url: `https://127.0.0.1:${port}/` });
    // As few connections as there are requests at once, which is what the limit is highest with.
    const limitKept = { ...bare(kept, keySized!.port), identities: identities.slice(0, CONCURRENCY) };

    const [limitFreshRate, freshRate] = await rates(
      kms,
      ['limit-fresh-per-s', bare(fresh, keySized!.port)],
      ['get-app-key-fresh-per-s', fresh],
    );
    const freshLoad = halfOf(GOALS.fresh, limitFreshRate);
    // What the machine and the load process add by themselves, at the same rate.
    const limitLatency = await latency(kms, 'limit-fresh-p99-ms', bare(fresh, keySized!.port), freshLoad);
    const freshLatency = await latency(kms, 'get-app-key-fresh-p99-ms', fresh, freshLoad);
    const flooded = await underFlood(kms, freshRate.value);
    const resident = await memory(kms);
    const [limitKeptRate, keptRate, metaRate, limitMetaRate] = await rates(
      kms,
      ['limit-kept-per-s', limitKept],
      ['get-app-key-kept-per-s', kept],
      ['get-meta-per-s', meta],
      ['limit-meta-per-s', bare(meta, metaSized!.port)],
    );
    const [keptLatency, network] = await Promise.all([
      latency(kms, 'get-app-key-kept-p99-ms', kept, halfOf(GOALS.kept, limitKeptRate)),
      networkUse(kms),
    ]);
    const metaLatency = await latency(kms, 'get-meta-p99-ms', meta, halfOf(GOALS.meta, limitKeptRate));
    return [
      limitFreshRate,
      compared(freshRate, limitFreshRate, GOALS.fresh),
      limitLatency,
      compared(freshLatency, limitLatency, GOALS.p99Ms),
      compared(flooded, freshRate, GOALS.underFlood),
      limitKeptRate,
      compared(keptRate, limitKeptRate, GOALS.kept),
      keptLatency,
      compared(metaRate, limitKeptRate, GOALS.meta),
      metaLatency,
      // The same number of bytes in each answer, which for GetMeta are many.
      compared(limitMetaRate, limitKeptRate),
      resident,
      ...network,
    ];
  } finally {
    keySized!.stop();
    metaSized!.stop();
  }
}

function compared(result: Result, { name, value }: Result, goal?: Goal): Result {
  return { ...result, peer: { name, value }, ...(goal && { goal }) };
}

/**
 * Calls to the network, and requests that waited for one, while a load runs: by then the head of the chain is followed,
 * collateral is there, and all that is left is the renewal of both. For a thousand released keys.
 */
async function networkUse(kms: LoadedKms): Promise<Result[]> {
  const idle = await countAllowed(kms);
  for (let waited = 0; (await countAllowed(kms)) - idle < 1000; waited += POLL_MS) {
    if (waited > START_TIMEOUT_MS) throw new Error('The load did not begin');
    await sleep(POLL_MS);
  }
  await sleep(WARM_UP_MS);
  const read = async () => ({
    chain: kms.chain.seen.length,
    collateral: kms.pccs.seen.length,
    waits: await waitedForChain(kms),
    allowed: await countAllowed(kms),
  });
  const before = await read();
  await sleep(DURATION_MS);
  const after = await read();
  const n = Math.round((after.allowed - before.allowed) / 2);
  const perThousand = (name: string, counted: 'chain' | 'collateral' | 'waits', goal?: Goal): Result => {
    const value = (1000 * (after[counted] - before[counted])) / n;
    return { suite: 'kms', name, value, unit: 'calls', n, ...(goal && { goal }) };
  };
  return [
    perThousand('chain-calls-per-1000', 'chain'),
    perThousand('waits-for-chain-per-1000', 'waits', GOALS.chainWaits),
    perThousand('collateral-calls-per-1000', 'collateral', GOALS.collateralCalls),
  ];
}

/** Rates of several loads, their rounds in turn, so that a machine that is busy for a while slows all of them. */
async function rates<const L extends readonly (readonly [name: string, load: Load])[]>(
  kms: LoadedKms,
  ...loads: L
): Promise<{ [K in keyof L]: Result }> {
  const reports = loads.map((): LoadReport[] => []);
  for (let round = 0; round < ROUNDS; round++) {
    for (const [index, [, plan]] of loads.entries()) {
      reports[index]!.push(await kms.drive({ ...plan, warmUpMs: WARM_UP_MS, durationMs: DURATION_MS }));
    }
  }
  return loads.map(([name], index) => ({
    suite: 'kms',
    name,
    value: median(reports[index]!.map(({ perSecond }) => perSecond)),
    unit: '1/s',
    n: reports[index]!.reduce((sum, { completed }) => sum + completed, 0),
  })) as { [K in keyof L]: Result };
}

/** Half of the load that a goal names. */
const halfOf = ({ ratio }: { ratio: number }, limit: Result): number => (ratio * limit.value) / 2;

/** Latency at a load, counted from the planned time. */
async function latency(kms: LoadedKms, name: string, plan: Load, rate: number): Promise<Result> {
  const timing = { rate, warmUpMs: WARM_UP_MS, durationMs: 2 * DURATION_MS };
  const { p99Ms, completed } = await kms.drive({ ...plan, ...timing });
  return { suite: 'kms', name, value: p99Ms, unit: 'ms', n: completed, goal: GOALS.p99Ms };
}

/** What valid clients get while another address sends forged evidence at five times the capacity. */
async function underFlood(kms: LoadedKms, capacity: number): Promise<Result> {
  const workload = await registeredWorkload(kms.stack, 'bench flood');
  const forged = await identityOf(kms.stack, workload, {
    quote: (quote) => quote.map((byte, index) => (index === 200 ? byte ^ 1 : byte)),
  });
  const [flood, report] = await Promise.all([
    load({
      ...kms.fresh,
      concurrency: CONCURRENCY,
      warmUpMs: WARM_UP_MS,
      identities: [forged],
      localAddress: FLOOD_ADDRESS,
      rate: FLOOD_FACTOR * capacity,
      durationMs: 2 * DURATION_MS,
    }),
    kms.drive({
      ...kms.fresh,
      warmUpMs: WARM_UP_MS,
      rate: SHARE_UNDER_FLOOD * capacity,
      durationMs: DURATION_MS,
    }),
  ]);
  if (flood.answered > 0) throw new Error('Forged evidence got an answer');
  const name = 'get-app-key-under-flood-per-s';
  return { suite: 'kms', name, value: report.perSecond, unit: '1/s', n: report.completed };
}

/** Resident memory of the KMS after at least 10,000 key requests; all applications have asked by then. */
async function memory(kms: LoadedKms): Promise<Result> {
  let requests = 0;
  // Connections that are open at once cost memory in every server; the number of applications is what counts here.
  const plan = { ...kms.kept, identities: kms.identities.slice(0, CONCURRENCY) };
  for (let round = 0; requests < 10_000 && round < 20; round++) {
    requests += (await kms.drive({ ...plan, warmUpMs: 0, durationMs: DURATION_MS })).completed;
  }
  const name = 'resident-memory-mb';
  return { suite: 'kms', name, value: kms.resident(), unit: 'MB', n: requests, goal: GOALS.residentMb };
}

/** Certificates of the same kinds and sizes as the KMS's own. */
function bareCertificates(stack: Stack): { key: string; cert: string; clientCa: string } {
  const now = Math.floor(Date.now() / 1000);
  const root = generateP256Key();
  const key = generateP256Key();
  const workload = {
    appId: new Uint8Array(20),
    composeHash: new Uint8Array(32),
    instanceId: new Uint8Array(),
    image: 'dstack-sim-0.6.0',
  };
  const certificate = rpcCertificate({
    issuer: issuerOf(rootCa({ key: root, now }), root),
    now,
    domain: '127.0.0.1',
    spki: key.spki,
    attestation: attest(stack.hardware, workload, ratlsReportData(key.spki)),
  });
  return { key: p256KeyPem(key), cert: certificatePem(certificate), clientCa: stack.tempCa.tempCaCert };
}
