/**
 * Key release, whole: every request is judged, authorised on chain, recorded and derived as in production, over
 * many applications. The limit is a bare Node TLS server with the same settings, certificates and answer size.
 * Server on one core, load from the other.
 */
import { ratlsReportData } from '@dstack-cloud/attestation';
import { generateP256Key, p256KeyPem } from '@dstack-cloud/keys';
import { certificatePem, issuerOf, rootCa, rpcCertificate } from '@dstack-cloud/ra-tls';
import { callKms } from '../harness/call-kms.ts';
import { processesIn } from '../harness/run-command.ts';
import { attest } from '../harness/simulated-workload.ts';
import { identityOf, registeredWorkload, type Stack, startStack } from '../harness/stack.ts';
import type { LoadIdentity, LoadPlan, LoadReport } from './load/plan.ts';
import { bareServer, load, pinProcess } from './load/processes.ts';
import { median, type Result } from './result.ts';

/** Applications that ask in turn; `DSTACK_BENCH_APPS` for a quick look. */
const APPS = Number(process.env['DSTACK_BENCH_APPS'] ?? 200);
const ROUNDS = 3;
const WARM_UP_MS = 2_000;
const DURATION_MS = 4_000;
const CONCURRENCY = 16;

export async function run(): Promise<Result[]> {
  const stack = await startStack();
  try {
    const identities: LoadIdentity[] = [];
    for (let app = 0; app < APPS; app++) {
      identities.push(await identityOf(stack, await registeredWorkload(stack, `bench ${app}`)));
    }
    for (const line of processesIn(stack.space.directory).filter((command) =>
      command.includes('dstack-kms'),
    )) {
      pinProcess(Number(line.split(' ')[0]));
    }
    const results = await measure(stack, identities);
    results.push(await memory(stack, identities));
    return results;
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
    const kms = { url: `${stack.kms.url}/prpc/GetAppKey?json`, identities, body };
    const limit = { ...kms, url: `https://127.0.0.1:${bare.port}/` };
    const results: Result[] = [];
    for (const connections of ['fresh', 'kept'] as const) {
      const limitRates = await rounds({ ...limit, connections });
      const rates = await rounds({ ...kms, connections });
      const peer = { name: `limit-${connections}-per-s`, value: median(limitRates.map((r) => r.perSecond)) };
      const n = rates.reduce((sum, { completed }) => sum + completed, 0);
      const value = median(rates.map((r) => r.perSecond));
      const common = { suite: 'kms', unit: '1/s' as const };
      results.push({
        ...common,
        name: `limit-${connections}-per-s`,
        value: peer.value,
        n: total(limitRates),
      });
      results.push({ ...common, name: `get-app-key-${connections}-per-s`, value, n, peer });
      if (connections === 'kept') results.push(await latency({ ...kms, connections }, value / 2));
    }
    const meta = { url: `${stack.kms.url}/prpc/GetMeta?json`, identities: [], body: '{}' };
    const rates = await rounds({ ...meta, connections: 'kept' });
    results.push({
      suite: 'kms',
      name: 'get-meta-per-s',
      value: median(rates.map((r) => r.perSecond)),
      unit: '1/s',
      n: total(rates),
      peer: {
        name: 'limit-kept-per-s',
        value: results.find((r) => r.name === 'limit-kept-per-s')?.value ?? 1,
      },
    });
    return results;
  } finally {
    bare.stop();
  }
}

const total = (reports: readonly LoadReport[]): number =>
  reports.reduce((sum, { completed }) => sum + completed, 0);

async function rounds(
  plan: Pick<LoadPlan, 'url' | 'identities' | 'body' | 'connections'>,
): Promise<LoadReport[]> {
  const reports: LoadReport[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    const report = await load({
      ...plan,
      concurrency: CONCURRENCY,
      warmUpMs: WARM_UP_MS,
      durationMs: DURATION_MS,
    });
    if (report.failed > 0) throw new Error(`${report.failed} requests failed: ${report.failure}`);
    reports.push(report);
  }
  return reports;
}

/** Latency at half of the capacity, counted from the planned time. */
async function latency(
  plan: Pick<LoadPlan, 'url' | 'identities' | 'body' | 'connections'>,
  rate: number,
): Promise<Result> {
  const report = await load({
    ...plan,
    rate,
    concurrency: CONCURRENCY,
    warmUpMs: WARM_UP_MS,
    durationMs: 2 * DURATION_MS,
  });
  const peer = { name: 'goal', value: 25 };
  return {
    suite: 'kms',
    name: 'get-app-key-p99-ms',
    value: report.p99Ms,
    unit: 'ms',
    n: report.completed,
    peer,
  };
}

/** Resident memory of the KMS after at least 10,000 key requests. */
async function memory(stack: Stack, identities: LoadIdentity[]): Promise<Result> {
  const { readFileSync } = await import('node:fs');
  let requests = 0;
  const plan = { url: `${stack.kms.url}/prpc/GetAppKey?json`, identities, body: '{"api_version":1}' };
  for (let round = 0; requests < 10_000 && round < 20; round++) {
    const report = await load({
      ...plan,
      connections: 'kept',
      concurrency: CONCURRENCY,
      warmUpMs: 0,
      durationMs: DURATION_MS,
    });
    requests += report.completed;
  }
  const line = processesIn(stack.space.directory).find((command) => command.includes('dstack-kms'));
  const status = readFileSync(`/proc/${line?.split(' ')[0]}/status`, 'utf8');
  const kilobytes = Number(/VmRSS:\s+(\d+)/.exec(status)?.[1]);
  const peer = { name: 'goal', value: 150 };
  return { suite: 'kms', name: 'resident-memory-mb', value: kilobytes / 1024, unit: 'MB', n: requests, peer };
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
