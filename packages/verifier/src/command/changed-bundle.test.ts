import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describeWithFixtures, fixturePath } from '@dstack-cloud/test/fixtures';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { bundleCommand } from './bundle-command.ts';
import { verifyCommand } from './verify-command.ts';

const MOCK = 'mock-evidence/set-a';
const SILENT = { out: () => undefined, err: () => undefined };

interface BundleJson {
  time: number;
  evidence: string;
  chain: string[];
  collateral: { documents: Record<string, string>[]; snp: unknown[]; [name: string]: unknown };
  [name: string]: unknown;
}

let directory = '';
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'bundle-'));
});
afterAll(() => rm(directory, { recursive: true }));

describeWithFixtures('a bundle that was changed', 'mock-evidence/expected.json', () => {
  const roots = ['tdx=tdx', 'gcp_tpm=tpm'].flatMap((entry) => {
    const [name, file] = entry.split('=');
    return ['--root', `${name}=${fixturePath(`${MOCK}/roots/${file}-root-ca.pem`)}`];
  });
  const options = [...roots, '--no-firmware-endorsement'];

  async function bundleOf(name: string): Promise<BundleJson> {
    const out = join(directory, 'original.json');
    const files = ['tdx-base', 'tpm-base'].flatMap((file) => [
      '--collateral',
      fixturePath(`${MOCK}/collateral/${file}.json`),
    ]);
    const evidence = fixturePath(`${MOCK}/evidence/${name}.v0.bin`);
    const argv = [evidence, '--at', '1781524800', ...options, ...files, '--out', out];
    expect(await bundleCommand(argv, SILENT)).toBe(0);
    return JSON.parse(await readFile(out, 'utf8')) as BundleJson;
  }

  async function verify(bundle: unknown): Promise<{ code: number; verdict: string }> {
    const path = join(directory, 'changed.json');
    await writeFile(path, typeof bundle === 'string' ? bundle : JSON.stringify(bundle));
    let text = '';
    const output = { out: (more: string) => (text += more), err: () => undefined };
    const code = await verifyCommand([path, ...options, '--json'], output);
    const { is_valid, checks } = JSON.parse(text) as {
      is_valid: boolean;
      checks: { id: string; ok: boolean }[];
    };
    return { code, verdict: is_valid ? 'good' : checks.at(-1)!.id };
  }

  it.each<[string, (bundle: BundleJson) => unknown, number, string]>([
    ['not at all', (b) => b, 0, 'good'],
    [
      'written on one line, members in another order',
      (b) => Object.fromEntries(Object.entries(b).reverse()),
      0,
      'good',
    ],
    ['another time within the window', (b) => ({ ...b, time: b.time + 60 }), 0, 'good'],
    ['a time after the window', (b) => ({ ...b, time: 1784030400 + 1 }), 1, 'tdx.tcb-info-dates'],
    ['a time of zero', (b) => ({ ...b, time: 0 }), 1, 'evidence.form'],
    ['a time as text', (b) => ({ ...b, time: '1781524800' }), 1, 'evidence.form'],
    ['evidence cut', (b) => ({ ...b, evidence: b.evidence.slice(0, 400) }), 1, 'evidence.form'],
    ['evidence no base64', (b) => ({ ...b, evidence: '!!' }), 1, 'evidence.form'],
    ['evidence empty', (b) => ({ ...b, evidence: '' }), 1, 'evidence.form'],
    ['another version', (b) => ({ ...b, version: 2 }), 1, 'evidence.form'],
    ['a member more', (b) => ({ ...b, extra: 1 }), 1, 'evidence.form'],
    ['no collateral', (b) => ({ ...b, collateral: { ...b.collateral, documents: [] } }), 2, 'tdx.collateral'],
    [
      'signed text of the collateral',
      (b) => {
        const [first] = b.collateral.documents;
        first!['tcb_info'] = first!['tcb_info']!.replace(
          '"tcbEvaluationDataNumber":17',
          '"tcbEvaluationDataNumber":18',
        );
        return b;
      },
      1,
      'tdx.tcb-info-signature',
    ],
    ['cut as JSON', (b) => JSON.stringify(b).slice(0, -5), 1, 'evidence.form'],
  ])('%s', async (_name, change, code, verdict) => {
    expect(await verify(change(await bundleOf('tdx-good')))).toEqual({ code, verdict });
  });

  it('of GCP without its vTPM part cannot be verified', async () => {
    const bundle = await bundleOf('gcp-good');
    const documents = bundle.collateral.documents.filter((document) => 'tcb_info' in document);
    expect(documents).toHaveLength(1);
    expect(await verify({ ...bundle, collateral: { ...bundle.collateral, documents } })).toMatchObject({
      code: 2,
    });
  });
});
