import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { toHex } from '@dstack-cloud/encoding';
import { describeWithFixtures, fixture, fixtureJson, fixturePath } from '@dstack-cloud/test/fixtures';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { bundleCommand } from './bundle-command.ts';
import { verifyCommand } from './verify-command.ts';

interface Case {
  readonly id: string;
  readonly now: number;
  readonly set: string;
  readonly files: Readonly<Record<string, string>>;
  readonly tdx_collateral?: string;
  readonly tpm_collateral?: string;
  readonly report_data: string;
  readonly mode: string;
  readonly original: { readonly app_info?: Readonly<Record<string, unknown>> };
  readonly ours: {
    readonly evidence: 'accept' | 'reject';
    readonly tcb_status?: string;
    readonly advisory_ids?: readonly string[];
    readonly default_policy: 'accept' | 'reject';
  };
}

interface ReportJson {
  readonly is_valid: boolean;
  readonly form: string;
  readonly mode: string;
  readonly tcb_status: string | null;
  readonly advisory_ids: readonly string[];
  readonly report_data: string | null;
  readonly simulated: boolean;
  readonly app_info: Readonly<Record<string, unknown>> | null;
  readonly valid_from: number | null;
  readonly valid_until: number | null;
  readonly policy: { readonly ok: boolean; readonly reasons: readonly string[] };
  readonly checks: readonly { readonly id: string; readonly ok: boolean }[];
  readonly reason: string | null;
}

const MOCK = 'mock-evidence';
const MEMBERS = [
  'is_valid',
  'verdict',
  'verified_at',
  'verified_now',
  'fresh',
  'form',
  'mode',
  'tcb_status',
  'advisory_ids',
  'app_info',
  'report_data',
  'simulated',
  'valid_from',
  'valid_until',
  'checks',
  'policy',
  'compared',
  'reason',
];

/** Made before firmware wrote report version 5: it is good now (AMD 56860). */
const OUTDATED: readonly string[] = ['snp-bad-version'];

async function run(argv: readonly string[]): Promise<{ code: number; json: ReportJson; text: string }> {
  let text = '';
  const output = { out: (more: string) => (text += more), err: () => undefined };
  const code = await verifyCommand([...argv, '--json'], output);
  return { code, json: JSON.parse(text) as ReportJson, text };
}

describeWithFixtures('verify command on the mock evidence', `${MOCK}/expected.json`, () => {
  const { sets, cases } = fixtureJson<{
    sets: Record<string, { roots: Record<string, string> }>;
    cases: readonly Case[];
  }>(`${MOCK}/expected.json`);

  function argumentsOf(item: Case): string[] {
    const collateral = [item.tdx_collateral, item.tpm_collateral].filter((path) => path !== undefined);
    return [
      '--at',
      String(item.now),
      '--no-firmware-endorsement',
      ...Object.entries(sets[item.set]!.roots).flatMap(([name, path]) => [
        '--root',
        `${name}=${fixturePath(`${MOCK}/${path}`)}`,
      ]),
      ...(collateral.length > 0 ? collateral : ['none']).flatMap((path) => [
        '--collateral',
        path === 'none' ? path : fixturePath(`${MOCK}/${path}`),
      ]),
    ];
  }

  for (const item of cases.filter(({ id }) => !OUTDATED.includes(id))) {
    for (const form of ['v0', 'v1', 'request'].filter((name) => name in item.files)) {
      it(`${item.ours.evidence}s ${item.id} (${form})`, async () => {
        const { code, json } = await run([fixturePath(`${MOCK}/${item.files[form]!}`), ...argumentsOf(item)]);
        expect(Object.keys(json)).toEqual(MEMBERS);
        expect(json.is_valid).toBe(item.ours.evidence === 'accept');
        expect(json.policy.ok).toBe(item.ours.default_policy === 'accept');
        expect(code).toBe(item.ours.default_policy === 'accept' ? 0 : 1);
        if (!json.is_valid) {
          expect(json.reason).toEqual(expect.any(String));
          expect(json.checks.filter((check) => !check.ok)).toEqual([json.checks.at(-1)]);
          return;
        }
        expect(json.checks.every((check) => check.ok)).toBe(true);
        expect(json.mode).toBe(item.mode);
        expect(json.valid_from).toBeLessThanOrEqual(item.now);
        expect(json.valid_until).toBeGreaterThanOrEqual(item.now);
        expect(json.app_info).toMatchObject(item.original.app_info ?? {});
        expect(json.simulated).toBe(true);
        expect(json.report_data).toBe(item.report_data);
        if (item.ours.tcb_status !== undefined) expect(json.tcb_status).toBe(item.ours.tcb_status);
        if (item.ours.advisory_ids) expect(json.advisory_ids).toEqual(item.ours.advisory_ids);
      });
    }
  }

  it('refuses every good case under the vendors roots', async () => {
    for (const item of cases.filter((candidate) => candidate.ours.evidence === 'accept')) {
      const args = argumentsOf(item);
      const bare = args.filter((arg, i) => arg !== '--root' && args[i - 1] !== '--root');
      const path = Object.values(item.files)[0]!;
      const { code, json } = await run([fixturePath(`${MOCK}/${path}`), ...bare]);
      expect([item.id, code, json.is_valid, json.simulated]).toEqual([item.id, 1, false, false]);
    }
  });

  it('verifies bare quote, documents and report of good cases', async () => {
    const good = (id: string): Case => cases.find((item) => item.id === id)!;
    const raw = (item: Case, name: string): string => fixturePath(`${MOCK}/${item.files[name]!}`);
    const tdx = good('tdx-good');
    expect((await run([raw(tdx, 'quote'), ...argumentsOf(tdx)])).json).toMatchObject({
      is_valid: true,
      form: 'quote',
      mode: 'tdx',
      report_data: tdx.report_data,
    });
    const nitro = good('nitro-good');
    expect((await run([raw(nitro, 'document'), ...argumentsOf(nitro)])).json).toMatchObject({
      is_valid: true,
      form: 'cose',
      mode: 'nitro-enclave',
      report_data: nitro.report_data,
    });
    const aws = good('awstpm-good');
    expect((await run([raw(aws, 'document'), ...argumentsOf(aws)])).json).toMatchObject({
      is_valid: true,
      mode: 'aws-nitro-tpm',
    });
    const snp = good('snp-good');
    const chain = ['--chain', raw(snp, 'ask'), '--chain', raw(snp, 'vcek')];
    expect((await run([raw(snp, 'report'), ...argumentsOf(snp), ...chain])).json).toMatchObject({
      is_valid: true,
      form: 'snp-report',
    });
    const alone = await run([raw(snp, 'report'), ...argumentsOf(snp)]);
    expect([alone.code, alone.json.is_valid]).toEqual([2, false]);
  });

  it('cannot judge good evidence without collateral, and still refuses bad evidence', async () => {
    for (const item of cases.filter((candidate) => candidate.tdx_collateral !== undefined)) {
      const args = argumentsOf({ ...item, tdx_collateral: undefined } as unknown as Case);
      const { code, json } = await run([fixturePath(`${MOCK}/${Object.values(item.files)[0]!}`), ...args]);
      expect(json.is_valid).toBe(false);
      if (item.ours.evidence === 'accept') expect([item.id, code]).toEqual([item.id, 2]);
    }
    const { code } = await run([
      fixturePath(`${MOCK}/set-a/evidence/tdx-bad-quote-tampered.v0.bin`),
      ...argumentsOf({ ...cases[0]!, tdx_collateral: undefined } as unknown as Case),
    ]);
    expect(code).toBe(1);
  });

  it('reports collateral that cannot be read, for each file', async () => {
    const item = cases.find((candidate) => candidate.id === 'tdx-good')!;
    const path = fixturePath(`${MOCK}/${item.files['v0']!}`);
    for (const wrong of ['no-such-file.json', fixturePath(`${MOCK}/README.md`), path]) {
      const { code, json } = await run([path, '--at', String(item.now), '--collateral', wrong]);
      expect([code, json.is_valid, json.checks.at(-1)?.id]).toEqual([1, false, 'collateral.form']);
    }
  });

  it('binds report data and identities that were asked for', async () => {
    const item = cases.find((candidate) => candidate.id === 'tdx-good')!;
    const path = fixturePath(`${MOCK}/${item.files['v0']!}`);
    const good = await run([path, ...argumentsOf(item), '--report-data', item.report_data]);
    expect(good.code).toBe(0);
    const bad = await run([path, ...argumentsOf(item), '--report-data', 'ab']);
    expect([bad.code, bad.json.is_valid]).toEqual([1, false]);
    const other = await run([path, ...argumentsOf(item), '--expect', `compose_hash=${'00'.repeat(32)}`]);
    expect([other.code, other.json.is_valid, other.json.policy.ok]).toEqual([1, true, false]);
  });

  let directory = '';
  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), 'verifier-'));
  });
  afterAll(() => rm(directory, { recursive: true }));

  it('reads hex and base64, and verifies a bundle again byte for byte', async () => {
    for (const id of ['tdx-good', 'gcp-good', 'snp-good', 'nitro-good', 'tdx-bad-debug']) {
      const item = cases.find((candidate) => candidate.id === id)!;
      const args = argumentsOf(item);
      const path = fixturePath(`${MOCK}/${item.files['v0']!}`);
      const direct = await run([path, ...args]);
      const bytes = fixture(`${MOCK}/${item.files['v0']!}`);
      const hex = join(directory, `${id}.hex`);
      await writeFile(hex, `${toHex(bytes)}\n`);
      expect((await run([hex, ...args])).json).toEqual({ ...direct.json, form: `${direct.json.form}-hex` });
      const base64 = join(directory, `${id}.b64`);
      await writeFile(
        base64,
        Buffer.from(bytes)
          .toString('base64')
          .replace(/(.{76})/g, '$1\n'),
      );
      expect((await run([base64, ...args])).json).toEqual({
        ...direct.json,
        form: `${direct.json.form}-base64`,
      });
      const bundle = join(directory, `${id}.bundle.json`);
      const silent = { out: () => undefined, err: () => undefined };
      expect(await bundleCommand([path, ...args, '--out', bundle], silent)).toBe(direct.code);
      const roots = args.filter((arg, i) => arg === '--root' || args[i - 1] === '--root');
      const again = await run([bundle, ...roots, '--no-firmware-endorsement']);
      expect(again.text).toBe(direct.text);
    }
  });
});
