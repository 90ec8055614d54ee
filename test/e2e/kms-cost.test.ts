/** What strangers send costs themselves: vendors are not asked for it, and guests of another address notice nothing. */
import { type Attestation, ratlsReportData } from '@dstack-cloud/attestation';
import { generateP256Key } from '@dstack-cloud/keys';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { callKms, errorOf } from '../harness/call-kms.ts';
import { forgedIdentity } from '../harness/forged-certificate.ts';
import { bareReport, zeroQuote } from '../harness/hostile-evidence.ts';
import { getAppKey, type KmsLab, labWorkload, startKmsLab } from '../harness/kms-lab.ts';
import type { KmsProcess } from '../harness/kms-process.ts';
import { type LoopbackServer, startLoopbackServer } from '../harness/loopback-server.ts';
import { attest } from '../harness/simulated-workload.ts';

const STRANGER = '127.0.0.2';
/** What one address may show, small so that a test is soon through, and several times as much as that. */
const BURST = 20;
const FORGERIES = 80;
const AT_ONCE = 4;
const LIMITS = {
  enabled: true,
  refused_evidence_per_minute: 1,
  network_cost_per_minute: 100_000,
  network_cost_burst: 100_000,
  refused_evidence_burst: BURST,
  collateral_per_minute: 8,
};
/** Each worker may let through so much before it has heard of the other. */
const WORKERS = 2;

let lab: KmsLab;
/** AMD's service: it knows no chip, and takes its time to say so. */
let amd: LoopbackServer;
beforeAll(async () => {
  lab = await startKmsLab();
  amd = await startLoopbackServer((_, response) => {
    setTimeout(() => response.writeHead(404).end(), 50);
  });
}, 120_000);
afterAll(async () => {
  await amd?.close();
  await lab?.stop();
});

const serve = async (name: string, core: object = {}): Promise<KmsProcess> => {
  const attestation = { urls: { pccs: lab.pccs.url, amd_kds: amd.url } };
  const host = await lab.host(name, {
    rpc: { workers: WORKERS },
    core: { attestation, rate_limit: LIMITS, ...core },
  });
  return host.serve();
};

/** Shows so much forged evidence from another address; how many of them were answered, and what they heard. */
async function flood(kms: KmsProcess, forge: (reportData: Uint8Array) => Attestation) {
  const heard: string[] = [];
  let left = FORGERIES;
  const stranger = async (): Promise<void> => {
    while (left-- > 0) {
      const key = generateP256Key();
      const identity = await forgedIdentity(key, [forge(ratlsReportData(key.spki))]);
      const sent = callKms(kms.url, 'GetMeta', {}, { ...identity, localAddress: STRANGER });
      heard.push(...(await sent.then((answer) => [errorOf(answer)]).catch(() => [])));
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, stranger));
  return heard;
}

/** Machines that start one after the other, each with its own evidence, while `hostile` is under way. */
async function bootMeanwhile(kms: KmsProcess, hostile: Promise<unknown>): Promise<number[]> {
  const statuses: number[] = [];
  let isUnderWay = true;
  const end = hostile.finally(() => {
    isUnderWay = false;
  });
  for (let machine = 0; machine < 8 || (isUnderWay && machine < 20); machine++) {
    const instanceId = new Uint8Array(20).fill(machine + 1);
    const identity = await lab.identity(kms, labWorkload('fleet', { instanceId }));
    statuses.push((await getAppKey(kms, identity)).status);
  }
  await end;
  return statuses;
}

test('cost-is-not-refunded: forged evidence asks no vendor, is shut out, and delays no guest of another address', async () => {
  const kms = await serve('cost', { sev_snp_key_release: true });
  const honest = attest(lab.hardware, labWorkload('any'), new Uint8Array(64));
  if (honest.quote.mode !== 'dstack-tdx') throw new Error('no quote');
  const { quote } = honest.quote;
  const first = await lab.identity(kms, labWorkload('first'));
  expect((await getAppKey(kms, first)).status).toBe(200);
  const before = lab.pccs.seen.length;

  let heard: string[] = [];
  const zeros = flood(kms, (reportData) => zeroQuote(quote, reportData)).then((all) => {
    heard = all;
  });
  const statuses = await bootMeanwhile(kms, zeros);
  expect(statuses).toEqual(statuses.map(() => 200));
  // The other worker may have asked for the one set that all of these guests need.
  expect(lab.pccs.seen.length - before).toBeLessThanOrEqual(4);
  expect(lab.pccs.seen.filter(({ path }) => path.includes('pckcert?'))).toEqual([]);
  // Each was counted, and none given back: the address was answered as often as it may be refused, and no more.
  expect(heard.length).toBeGreaterThanOrEqual(BURST);
  expect(heard.length).toBeLessThanOrEqual(WORKERS * BURST + AT_ONCE);
  expect(heard.filter((text) => !/^invalid quote: |^Too many requests/.test(text))).toEqual([]);
  expect(await kms.stop()).toBe(0);
}, 120_000);

test('vendor-budget: reports of invented chips cost AMD what one address may ask for, and nothing when SNP gets no keys', async () => {
  const open = await serve('snp-open', { sev_snp_key_release: true });
  const reports = flood(open, bareReport);
  const statuses = await bootMeanwhile(open, reports);
  expect(statuses).toEqual(statuses.map(() => 200));
  const asked = amd.seen.length;
  expect(asked).toBeGreaterThan(0);
  expect(asked).toBeLessThanOrEqual(WORKERS * LIMITS.collateral_per_minute + 2);
  expect(new Set(amd.seen.map(({ path }) => path)).size).toBe(asked);
  await open.stop();

  const closed = await serve('snp-closed', { sev_snp_key_release: false });
  const heard = await flood(closed, bareReport);
  expect(heard).toContain('invalid quote: amd sev-snp key release is not enabled');
  expect(amd.seen.length).toBe(asked);
  await closed.stop();
}, 120_000);
