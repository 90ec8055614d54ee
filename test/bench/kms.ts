/**
 * Key release, whole: every request is judged, authorised on chain, recorded and derived as in production, over
 * many applications. The limit is a bare Node TLS server with the same settings, certificates and answer size.
 * Server on one core, load from the other.
 */
import { readFileSync } from 'node:fs';
import { ratlsReportData } from '@dstack-cloud/attestation';
import { generateP256Key, p256KeyPem } from '@dstack-cloud/keys';
import { certificatePem, issuerOf, rootCa, rpcCertificate } from '@dstack-cloud/ra-tls';
import { callKms } from '../harness/call-kms.ts';
import { processesIn } from '../harness/run-command.ts';
import { attest } from '../harness/simulated-workload.ts';
import { identityOf, registeredWorkload, type Stack, startStack } from '../harness/stack.ts';
import { loadApps } from './load/load-apps.ts';
import type { LoadIdentity, LoadPlan, LoadReport } from './load/plan.ts';
import { bareServer, load, pinProcess } from './load/processes.ts';
import { median, type Result } from './result.ts';

/** Applications that ask in turn; `DSTACK_BENCH_APPS` for a quick look. */
const APPS = Number(process.env['DSTACK_BENCH_APPS'] ?? 1000);
const ROUNDS = 3;
const WARM_UP_MS = 2_000;
const DURATION_MS = 4_000;
const CONCURRENCY = 16;

/** Limits as in production, but for a load that no honest fleet makes from one address. */
const LIMITS = `
[core.rate_limit]
attested_per_minute = 1000000000
attested_burst = 1000000000
open_per_minute = 1000000000
open_burst = 1000000000
`;
/** Where the flood comes from: another address of this machine, as an attacker has another one than the guests. */
const FLOOD_ADDRESS = '127.0.0.2';

type Load = Pick<LoadPlan, 'url' | 'identities' | 'body' | 'connections'>;

export async function run(): Promise<Result[]> {
  const stack = await startStack(LIMITS);
  try {
    const identities = await loadApps(stack, APPS);
    pinProcess(pidOfKms(stack));
    return await measure(stack, identities);
  } finally {
    await stack.stop();
  }
}

async function measure(stack: Stack, identities: LoadIdentity[]): Promise<Result[]> {
  const body = JSON.stringify({ api_version: 1, vm_config: '' });
  const answer = await callKms(stack.kms.url, 'GetAppKey', JSON.parse(body), identities[0]);
  if (answer.status !== 200) throw new Error(`GetAppKey: ${answer.body}`);
  const bare = await bareServer({ ...bareCertificates(stack), answerBytes: Buffer.byteLength(answer.body) });
  try {
    const limitUrl = `https://127.0.0.1:${bare.port}/`;
    const kms = { url: `${stack.kms.url}/prpc/GetAppKey?json`, identities, body };
    const fresh = { ...kms, connections: 'fresh' } as const;
    const kept = { ...kms, connections: 'kept' } as const;
    const meta: Load = { ...kept, url: `${stack.kms.url}/prpc/GetMeta?json`, identities: [], body: '{}' };
    const limitFresh = { ...fresh, url: limitUrl };
    // As few connections as there are requests at once, which is what the limit is highest with.
    const limitKept = { ...kept, url: limitUrl, identities: identities.slice(0, CONCURRENCY) };

    const [limitFreshRate, freshRate] = await rates(
      ['limit-fresh', limitFresh],
      ['get-app-key-fresh', fresh],
    );
    const freshLatency = await latency('get-app-key-fresh-p99-ms', fresh, freshRate.value / 2);
    const flooded = await underFlood(stack, fresh, freshRate.value);
    const resident = await memory(stack, identities);
    const [limitKeptRate, keptRate, metaRate] = await rates(
      ['limit-kept', limitKept],
      ['get-app-key-kept', kept],
      ['get-meta', meta],
    );
    const keptLatency = await latency('get-app-key-p99-ms', kept, keptRate.value / 2);
    const of = (result: Result, { name, value }: Result): Result => ({ ...result, peer: { name, value } });
    return [
      limitFreshRate,
      of(freshRate, limitFreshRate),
      freshLatency,
      of(flooded, freshRate),
      limitKeptRate,
      of(keptRate, limitKeptRate),
      keptLatency,
      of(metaRate, limitKeptRate),
      resident,
    ];
  } finally {
    bare.stop();
  }
}

/** Rates of several loads, their rounds in turn, so that a machine that is busy for a while slows all of them. */
async function rates<const L extends readonly (readonly [name: string, load: Load])[]>(
  ...loads: L
): Promise<{ [K in keyof L]: Result }> {
  const reports = loads.map((): LoadReport[] => []);
  for (let round = 0; round < ROUNDS; round++) {
    for (const [index, [, plan]] of loads.entries()) reports[index]!.push(await oneRound(plan));
  }
  return loads.map(([name], index) => ({
    suite: 'kms',
    name: `${name}-per-s`,
    value: median(reports[index]!.map(({ perSecond }) => perSecond)),
    unit: '1/s',
    n: reports[index]!.reduce((sum, { completed }) => sum + completed, 0),
  })) as { [K in keyof L]: Result };
}

async function oneRound(plan: Load): Promise<LoadReport> {
  const report = await load({
    ...plan,
    concurrency: CONCURRENCY,
    warmUpMs: WARM_UP_MS,
    durationMs: DURATION_MS,
  });
  if (report.failed > 0) throw new Error(`${report.failed} requests failed: ${report.failure}`);
  return report;
}

/** Latency at half of the capacity, counted from the planned time. */
async function latency(name: string, plan: Load, rate: number): Promise<Result> {
  const report = await load({
    ...plan,
    rate,
    concurrency: CONCURRENCY,
    warmUpMs: WARM_UP_MS,
    durationMs: 2 * DURATION_MS,
  });
  const peer = { name: 'goal', value: 25 };
  return { suite: 'kms', name, value: report.p99Ms, unit: 'ms', n: report.completed, peer };
}

/**
 * What valid clients get while another address sends forged evidence at five times the capacity. They ask for six
 * tenths of the capacity, so that the core which both loads share is not the limit.
 */
async function underFlood(stack: Stack, plan: Load, capacity: number): Promise<Result> {
  const workload = await registeredWorkload(stack, 'bench flood');
  const forged = await identityOf(stack, workload, {
    quote: (quote) => quote.map((byte, index) => (index === 200 ? byte ^ 1 : byte)),
  });
  const timing = { concurrency: CONCURRENCY, warmUpMs: WARM_UP_MS };
  const [flood, report] = await Promise.all([
    load({
      ...plan,
      ...timing,
      identities: [forged],
      localAddress: FLOOD_ADDRESS,
      rate: 5 * capacity,
      durationMs: 2 * DURATION_MS,
    }),
    load({ ...plan, ...timing, rate: 0.6 * capacity, durationMs: DURATION_MS }),
  ]);
  if (flood.completed > 0) throw new Error('Forged evidence got an answer');
  if (report.failed > 0) throw new Error(`${report.failed} requests failed: ${report.failure}`);
  const name = 'get-app-key-under-flood-per-s';
  return { suite: 'kms', name, value: report.perSecond, unit: '1/s', n: report.completed };
}

/** Resident memory of the KMS after at least 10,000 key requests; all applications have asked by then. */
async function memory(stack: Stack, identities: LoadIdentity[]): Promise<Result> {
  let requests = 0;
  const plan = {
    url: `${stack.kms.url}/prpc/GetAppKey?json`,
    // Connections that are open at once cost memory in every server; the number of applications is what counts here.
    identities: identities.slice(0, CONCURRENCY),
    body: '{"api_version":1}',
    connections: 'kept',
    concurrency: CONCURRENCY,
    warmUpMs: 0,
    durationMs: DURATION_MS,
  } as const;
  for (let round = 0; requests < 10_000 && round < 20; round++) requests += (await load(plan)).completed;
  const status = readFileSync(`/proc/${pidOfKms(stack)}/status`, 'utf8');
  const kilobytes = Number(/VmRSS:\s+(\d+)/.exec(status)?.[1]);
  const peer = { name: 'goal', value: 150 };
  return { suite: 'kms', name: 'resident-memory-mb', value: kilobytes / 1024, unit: 'MB', n: requests, peer };
}

function pidOfKms(stack: Stack): number {
  const line = processesIn(stack.space.directory).find((command) => command.includes('dstack-kms'));
  if (line === undefined) throw new Error('No KMS is running');
  return Number(line.split(' ')[0]);
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
