import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describeWithFixtures, fixturePath } from '@dstack-cloud/test/fixtures';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openBundle } from '../bundle.ts';
import { bundleCommand } from './bundle-command.ts';
import { verifyCommand } from './verify-command.ts';

const MOCK = 'mock-evidence/set-a';
const AT = '1781524800';
const SILENT = { out: () => undefined, err: () => undefined };

let directory = '';
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'prover-'));
});
afterAll(() => rm(directory, { recursive: true }));

async function run(...argv: string[]): Promise<{ code: number; out: string }> {
  let out = '';
  const code = await verifyCommand(argv, { out: (more) => (out += more), err: () => undefined });
  return { code, out };
}

describeWithFixtures('whoever is verified chooses nothing', 'mock-evidence/expected.json', () => {
  const evidence = fixturePath(`${MOCK}/evidence/tdx-good.v0.bin`);
  const root = ['--root', `tdx=${fixturePath(`${MOCK}/roots/tdx-root-ca.pem`)}`];
  const given = [...root, '--collateral', fixturePath(`${MOCK}/collateral/tdx-base.json`)];

  it('marks a time that somebody chose, in text and JSON', async () => {
    const text = await run(evidence, ...given, '--at', AT);
    expect(text.out.split('\n')[0]).toContain('; at 2026-06-15T12:00:00Z, NOT now');
    expect(text.out).toMatch(/time +2026-06-15T12:00:00Z \(NOT now/);
    const json = JSON.parse((await run(evidence, ...given, '--at', AT, '--json')).out);
    expect(json).toMatchObject({ verified_at: Number(AT), verified_now: false });
  });

  it('without a time means now, also where nothing can be verified then', async () => {
    const before = Math.floor(Date.now() / 1000);
    for (const path of [evidence, fixturePath(`${MOCK}/roots/tdx-root-ca.pem`), 'no-such-file']) {
      const { out } = await run(path, ...given, '--json');
      const json = JSON.parse(out) as { verified_at: number; verified_now: boolean };
      expect(json.verified_now).toBe(true);
      expect(json.verified_at).toBeGreaterThanOrEqual(before);
    }
    const text = await run(evidence, ...given);
    expect(text.out).toMatch(/time +20\d\d-.*Z \(now\)/);
  });

  it('says that nothing was compared, distinctly, and what was', async () => {
    const bare = await run(evidence, ...given, '--at', AT);
    expect(bare.out).toContain('consistent (SIMULATED), but nothing was compared with it');
    const json = JSON.parse((await run(evidence, ...given, '--at', AT, '--json')).out);
    expect(json).toMatchObject({ is_valid: true, verdict: 'nothing-compared', compared: [] });
    const expected = String(json.app_info.compose_hash);
    const compared = await run(
      evidence,
      ...given,
      '--at',
      AT,
      '--expect',
      `compose_hash=0x${expected.toUpperCase()}`,
      '--json',
    );
    expect(JSON.parse(compared.out)).toMatchObject({
      verdict: 'accepted',
      compared: [{ name: 'compose_hash', ok: true, expected, found: expected }],
    });
    const other = await run(
      evidence,
      ...given,
      '--at',
      AT,
      '--expect',
      `app_id=${'00'.repeat(20)}`,
      '--json',
    );
    expect([other.code, JSON.parse(other.out)]).toMatchObject([1, { verdict: 'not-accepted' }]);
  });

  it.each([
    ['an unknown name', ['--expect', `composehash=${'00'.repeat(32)}`]],
    ['an empty value', ['--expect', 'compose_hash=']],
    ['a name alone', ['--expect', 'compose_hash']],
    ['half a value', ['--expect', 'compose_hash=abcd']],
    ['a name twice', ['--expect', `app_id=${'00'.repeat(20)}`, '--expect', `app_id=${'00'.repeat(20)}`]],
    ['empty report data', ['--report-data', '']],
    ['report data that is no hex', ['--report-data', 'xyz']],
    ['report data twice', ['--report-data', '00', '--report-data', '01']],
    ['a time twice', ['--at', AT, '--at', AT]],
    ['a policy twice', ['--policy', 'a.json', '--policy', 'b.json']],
    ['no collateral, and some', ['--collateral', 'none']],
    ['a root twice', root],
  ])('refuses %s before it looks at anything', async (_name, extra) => {
    await expect(run(evidence, ...given, ...extra)).rejects.toThrow(
      expect.objectContaining({ code: expect.stringMatching(/^(usage|expectation)$/) }),
    );
  });

  it.each([
    ['a member twice', `{"expect":{"app_id":"${'00'.repeat(20)}","app_id":"${'11'.repeat(20)}"}}`],
    ['an unknown member', '{"expects":{}}'],
    ['a status that does not exist', '{"accepted_statuses":["UpTodate"]}'],
  ])('a policy with %s is not taken', async (_name, text) => {
    const path = join(directory, 'policy.json');
    await writeFile(path, text);
    const { code, out } = await run(evidence, ...given, '--at', AT, '--policy', path, '--json');
    expect([code, JSON.parse(out)]).toMatchObject([1, { is_valid: false, verdict: 'refused' }]);
  });

  it('expects in a policy file what it understands, and once', async () => {
    const path = join(directory, 'policy.json');
    await writeFile(path, JSON.stringify({ expect: { app_id: '00'.repeat(20) } }));
    const { out } = await run(evidence, ...given, '--at', AT, '--policy', path, '--json');
    expect(JSON.parse(out)).toMatchObject({
      verdict: 'not-accepted',
      compared: [{ name: 'app_id', ok: false }],
    });
    const twice = ['--policy', path, '--expect', `app_id=${'00'.repeat(20)}`];
    await expect(run(evidence, ...given, ...twice)).rejects.toThrow('app_id is expected twice');
  });

  describe('a bundle', () => {
    const bundleOf = async (): Promise<string> => {
      const out = join(directory, 'bundle.json');
      expect(await bundleCommand([evidence, ...given, '--at', AT, '--out', out], SILENT)).toBe(0);
      return readFile(out, 'utf8');
    };

    it('of the reader is marked with its time; --at now verifies for now', async () => {
      await bundleOf();
      const path = join(directory, 'bundle.json');
      const { out } = await run(path, ...root, '--json');
      expect(JSON.parse(out)).toMatchObject({ verified_at: Number(AT), verified_now: false, is_valid: true });
      const now = await run(path, ...root, '--at', 'now', '--json');
      expect(JSON.parse(now.out)).toMatchObject({ verified_now: true, is_valid: false });
    });

    it('of a time that has not come is refused', async () => {
      const bundle = {
        ...(JSON.parse(await bundleOf()) as object),
        time: Math.floor(Date.now() / 1000) + 3600,
      };
      const path = join(directory, 'future.json');
      await writeFile(path, JSON.stringify(bundle));
      const { code, out } = await run(path, ...root, '--json');
      expect(code).toBe(1);
      expect(JSON.parse(out)).toMatchObject({
        is_valid: false,
        reason: expect.stringContaining('in the future'),
      });
      expect(openBundle(new TextEncoder().encode(JSON.stringify(bundle)), bundle.time)?.time).toBe(
        bundle.time,
      );
    });
  });

  it('a compose file beside evidence must be the one that was measured', async () => {
    const hex = (await readFile(evidence)).toString('hex');
    const path = join(directory, 'shown.json');
    await writeFile(path, JSON.stringify({ attestation: hex, app_compose: '{"name":"something else"}' }));
    const { code, out } = await run(path, ...given, '--at', AT, '--json');
    const json = JSON.parse(out) as { is_valid: boolean; checks: { id: string }[] };
    expect([code, json.is_valid, json.checks.at(-1)?.id]).toEqual([1, false, 'app.compose']);
  });
});
