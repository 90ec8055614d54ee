/**
 * The whole against strangers: for every listener of every service the largest hostile input of each kind, from one
 * address and from many, while genuine clients of another address ask at a steady rate.
 */
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { encodeAttestation, ratlsReportData } from '@dstack-cloud/attestation';
import { toHex } from '@dstack-cloud/encoding';
import { generateP256Key } from '@dstack-cloud/keys';
import { describeWithFixtures } from '@dstack-cloud/test/fixtures';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { forgedIdentity } from '../harness/forged-certificate.ts';
import type { Material } from '../harness/hostile/attacks.ts';
import { type Service, startAttackers, startGenuine } from '../harness/hostile/drivers.ts';
import { type EntryPoint, type EntryPoints, startEntryPoints } from '../harness/hostile/entry-points.ts';
import type { GenuinePlan } from '../harness/hostile/genuine-process.ts';
import { csrOfManyKeys, packedIdentity } from '../harness/hostile/hostile-inputs.ts';
import { limitsPage, limitsTable, type Row } from '../harness/hostile/limits-page.ts';
import { labWorkload, tempCa } from '../harness/kms-lab.ts';
import { repository } from '../harness/run-command.ts';
import { attest, clientIdentity } from '../harness/simulated-workload.ts';

const PAGE = join(repository, 'docs/limits.md');
const ATTACK_MS = 700;
const ATTACKERS = 8;
const MANY = 16;
/** How often an attack is tried again before what it did counts: the machine has hiccups of its own. */
const TRIES = 4;

/** What an attack may do. Delays are held against those of the same run without attackers, where these are longer. */
const BOUND = {
  servedPercent: 80,
  p99Ms: 250,
  loopMs: 250,
  heapMb: 128,
  logKb: 100,
  auditKb: 64,
  fetches: 20,
} as const;
const TIMES_IDLE = 6;

const EVERYWHERE = [
  'connections that say nothing',
  'bytes that are nothing',
  'thousands of requests at once',
  'requests that are refused',
  'the largest body',
  'a body of many values',
  'bodies that stand still',
  'answers that nobody reads',
];
const BESIDES: Readonly<Record<EntryPoint['name'], readonly string[]>> = {
  KMS: ['certificates that unpack to megabytes', 'forged evidence', 'a signing request of 130,000 keys'],
  'KMS onboarding': ['wrong credentials'],
  'KMS admin': ['wrong credentials'],
  'auth API': [],
  verifier: ['evidence that needs collateral'],
  'guest agent': ['nonces to be quoted'],
  VMM: ['wrong credentials'],
};

test('hostile-inputs: the page lists the limits that the program has', () => {
  const page = existsSync(PAGE) ? readFileSync(PAGE, 'utf8') : '';
  if (process.env['DSTACK_WRITE_LIMITS'] === undefined) expect(page).toContain(limitsTable());
});

describeWithFixtures('hostile inputs', 'simulator/attestation.bin', () => {
  let points: EntryPoints;
  let material: Material;
  let attackers: ReturnType<typeof startAttackers>;
  const rows: Row[] = [];
  /** Each attack comes from addresses of its own: what another one has spent is not counted. */
  let attacks = 0;

  beforeAll(async () => {
    points = await startEntryPoints();
    material = await makeMaterial(points);
    attackers = startAttackers(material);
  }, 180_000);
  afterAll(async () => {
    await attackers?.stop();
    await points?.stop();
  });

  describe.each([...Object.keys(BESIDES)] as EntryPoint['name'][])('%s', (name) => {
    let genuine: ReturnType<typeof startGenuine>;
    let idle: Service & { loopMs: number; heapBytes: number };

    beforeAll(async () => {
      const point = points.of(name);
      genuine = startGenuine(await genuinePlan(points, point));
      await pause(2_500);
      const since = Date.now();
      await pause(1_500);
      idle = { ...(await genuine.served(since, Date.now())), ...point.program.peakSince(since) };
      expect(
        idle.perSecond,
        `${name} without attackers: ${point.program.output().slice(-2_000)}`,
      ).toBeGreaterThan(5);
    }, 30_000);
    afterAll(async () => genuine?.stop());

    test.each([...EVERYWHERE, ...BESIDES[name]])(
      `hostile-inputs: ${name}: %s, from one address and from many`,
      async (attack) => {
        for (const from of [1, MANY]) {
          let row = await measure(attack, from);
          for (let turn = 1; turn < TRIES && faults(row).length > 0; turn++)
            row = await measure(attack, from);
          rows.push(row);
          expect(faults(row), JSON.stringify({ row, idle })).toEqual([]);
        }
      },
      60_000,
    );

    async function measure(attack: string, from: number): Promise<Row> {
      const { program, ...point } = points.of(name);
      await calm(name);
      attacks += 1;
      const net = `127.${1 + Math.floor(attacks / 250)}.${attacks % 250}`;
      const before = { log: program.logBytes(), audit: deniedBytes(), fetches: points.fetches() };
      const since = Date.now();
      await attackers.attack({
        attack,
        // Strangers have no credential.
        target: { ...point, headers: {} },
        addresses: Array.from({ length: from }, (_, index) => `${net}.${index + 1}`),
        attackers: from === 1 ? ATTACKERS : 2 * MANY,
        ms: ATTACK_MS,
      });
      const until = Date.now();
      const service = await genuine.served(since, until);
      const { loopMs, heapBytes } = program.peakSince(since);
      return {
        entry: name,
        attack,
        from: from === 1 ? 'one' : 'many',
        loopMs,
        heapMb: Math.max(0, heapBytes - idle.heapBytes) / 2 ** 20,
        logKb: (program.logBytes() - before.log) / 1_000 / ((until - since) / 1_000),
        auditKb: (deniedBytes() - before.audit) / 1_000,
        fetches: points.fetches() - before.fetches,
        servedPercent: service.servedPercent,
        p99Ms: service.p99Ms,
      };
    }

    function faults(row: Row): string[] {
      const most: [keyof Row & keyof typeof BOUND, number][] = [
        ['p99Ms', Math.max(BOUND.p99Ms, TIMES_IDLE * idle.p99Ms)],
        ['loopMs', Math.max(BOUND.loopMs, TIMES_IDLE * idle.loopMs)],
        ['heapMb', BOUND.heapMb],
        ['logKb', BOUND.logKb],
        ['auditKb', BOUND.auditKb],
        ['fetches', BOUND.fetches],
      ];
      return [
        ...(row.servedPercent >= BOUND.servedPercent ? [] : [`served ${row.servedPercent} %`]),
        ...most
          .filter(([what, limit]) => !(row[what] <= limit))
          .map(([what, limit]) => `${what} ${row[what]} > ${limit}`),
      ];
    }
  });

  /** Waits until what was before is over. */
  async function calm(name: EntryPoint['name']): Promise<void> {
    const { program } = points.of(name);
    const until = Date.now() + 3_000;
    do await pause(100);
    while (Date.now() < until && program.peakSince(Date.now() - 250).loopMs > 60);
  }

  function deniedBytes(): number {
    const folder = join(points.host.certDir, 'audit');
    return readdirSync(folder)
      .filter((file) => file.endsWith('.log'))
      .flatMap((file) => readFileSync(join(folder, file), 'utf8').split('\n'))
      .filter((line) => line.includes('"denied"'))
      .reduce((sum, line) => sum + line.length, 0);
  }

  afterAll(() => {
    if (process.env['DSTACK_WRITE_LIMITS'] === undefined) return;
    const { servedPercent, p99Ms, loopMs, heapMb, logKb, auditKb, fetches } = BOUND;
    const bounds = [
      `The test fails when they get less than ${servedPercent} % of what they ask for, or wait longer than`,
      `${p99Ms} ms (99th percentile; on a busy machine, ${TIMES_IDLE} times what they wait without attackers), when the event`,
      `loop is held up for more than ${loopMs} ms (likewise), the heap grows by more than`,
      `${heapMb} MB, the log by more than ${logKb} KB a second, the audit log by more than ${auditKb} KB, or more than ${fetches}`,
      'requests go to a collateral service.',
    ];
    writeFileSync(PAGE, limitsPage(rows, bounds.join('\n')));
  });
});

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

function credentialOf({ authorization }: EntryPoint): Record<string, string> {
  return authorization === undefined ? {} : { Authorization: authorization };
}

async function makeMaterial({ lab, of }: EntryPoints): Promise<Material> {
  const ca = await tempCa({ url: `https://127.0.0.1:${of('KMS').port}` });
  const workload = labWorkload('forged');
  const spoil = [200, 500, 640, 700, 900];
  const forged = await Promise.all(
    Array.from({ length: 20 }, async (_, index) => {
      const key = generateP256Key();
      const evidence = attest(lab.hardware, workload, ratlsReportData(key.spki), {
        quote: (quote) =>
          // Some with one bit turned, some with a signature of zeros.
          index % 2 === 0
            ? quote.map((byte, at) => (at === spoil[index % spoil.length]! + index ? byte ^ 1 : byte))
            : quote.map((byte, at) => (at >= 636 && at < 700 ? 0 : byte)),
      });
      return forgedIdentity(key, [evidence], ca);
    }),
  );
  const unbacked = forged.map((_, index) =>
    JSON.stringify({
      attestation: toHex(
        encodeAttestation({
          ...attest(lab.hardware, labWorkload(`unbacked-${index}`), new Uint8Array(64).fill(index)),
          ...(index % 2 === 0 ? {} : { quote: unsignedReport(index), runtimeEvents: [] }),
        }),
      ),
    }),
  );
  return { packed: await packedIdentity(), forged, csr: csrOfManyKeys(), unbacked };
}

/** An SEV-SNP report that brings no certificates: whoever judges it would have to fetch them. */
function unsignedReport(index: number): Parameters<typeof encodeAttestation>[0]['quote'] {
  const report = new Uint8Array(1_184).fill(index + 1);
  report.set([3, 0, 0, 0]);
  return { mode: 'dstack-amd-sev-snp', report, certChain: [], mrConfig: '{}' };
}

async function genuinePlan({ lab }: EntryPoints, point: EntryPoint): Promise<GenuinePlan> {
  const { name, port, isTls, page } = point;
  const plan = { port, isTls, from: '127.0.0.1', perSecond: 20 };
  const get = { method: 'GET', path: page, headers: credentialOf(point) };
  if (name === 'KMS') {
    const ca = await tempCa({ url: `https://127.0.0.1:${port}` });
    const identities = await Promise.all(
      Array.from({ length: 10 }, (_, index) =>
        clientIdentity({ platform: lab.hardware, workload: labWorkload(`genuine-${index}`), ...ca }),
      ),
    );
    const ask = { method: 'POST', path: '/prpc/GetAppKey?json', body: '{"api_version":1}' };
    return { ...plan, requests: identities.map((identity) => ({ ...ask, identity })) };
  }
  if (name === 'auth API') {
    const hex = (bytes: number): string => '11'.repeat(bytes);
    const body = JSON.stringify({
      appId: hex(20),
      composeHash: hex(32),
      instanceId: hex(20),
      deviceId: hex(32),
      mrAggregated: hex(32),
      osImageHash: hex(32),
    });
    return { ...plan, requests: [get, { method: 'POST', path: '/bootAuth/app', body }] };
  }
  if (name === 'guest agent')
    return { ...plan, requests: [get, { method: 'POST', path: '/prpc/Worker.Version', body: '' }] };
  return { ...plan, requests: [get] };
}
