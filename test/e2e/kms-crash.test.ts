/** Root keys through crashes: after each there is the old state or the finished one, never lost or doubled keys. */
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, unlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fromHex, toHex } from '@dstack-cloud/encoding';
import { k256PublicKey, p256KeyFromPem } from '@dstack-cloud/keys';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { callKms } from '../harness/call-kms.ts';
import { type KmsHost, type KmsLab, startKmsLab } from '../harness/kms-lab.ts';
import type { KmsProcess } from '../harness/kms-process.ts';

let lab: KmsLab;
beforeAll(async () => {
  lab = await startKmsLab();
}, 120_000);
afterAll(async () => lab?.stop());

const CRASH = 'preload/crash.mjs';
// Files are the primary's; the many starts here need no workers. A killed primary with workers: kms-workers.test.ts.
const ONE = { rpc: { workers: 1 } };
const ONBOARD = { ...ONE, core: { onboard: { auto_bootstrap_domain: '' } } };

/** Hex of a root key on disk, whether placed or still staged; undefined when there is none. */
function rootKey({ certDir }: KmsHost, name: 'root-k256.key' | 'root-ca.key'): string | undefined {
  const staged = join(certDir, '.pending');
  const isCommitted = existsSync(join(staged, 'complete'));
  for (const directory of [certDir, ...(isCommitted ? [staged] : [])]) {
    const path = join(directory, name);
    if (existsSync(path)) return readFileSync(path).toString('hex');
  }
  return undefined;
}

/** Names of the files that hold keys, and of what a commit leaves behind. */
const leftovers = ({ certDir }: KmsHost) =>
  readdirSync(certDir).filter((name) => name.startsWith('.') || name.includes('.tmp'));

type Meta = { k256_pubkey: string; bootstrap_info: { k256_pubkey: string; ca_pubkey: string } | null };
const metaOf = async (kms: KmsProcess) => JSON.parse((await callKms(kms.url, 'GetMeta')).body) as Meta;

/** Starts the service on what a crash left: it must serve one consistent set of keys, the one that was there if any was. */
async function expectWhole(host: KmsHost, before: string | undefined): Promise<string> {
  const kms = await host.serve();
  const meta = await metaOf(kms);
  const key = readFileSync(join(host.certDir, 'root-k256.key'));
  if (before !== undefined) expect(key.toString('hex')).toBe(before);
  expect(meta.k256_pubkey).toBe(toHex(k256PublicKey(key)));
  const ca = p256KeyFromPem(readFileSync(join(host.certDir, 'root-ca.key'), 'utf8'));
  if (meta.bootstrap_info !== null) {
    expect(meta.bootstrap_info.k256_pubkey).toBe(meta.k256_pubkey);
    expect(meta.bootstrap_info.ca_pubkey).toBe(toHex(ca.spki));
  }
  expect(leftovers(host)).toEqual([]);
  await kms.stop('SIGKILL');
  return meta.k256_pubkey;
}

/** The file operations of a run, as the preloaded module names them. */
const traceOf = (path: string) => readFileSync(path, 'utf8').trim().split('\n');

/** Positions to be killed at: each of `from` to `to`. */
const positions = (from: number, to: number): number[] =>
  Array.from({ length: to - from + 1 }, (_, index) => from + index);

/** Runs `work` for all items, two at a time. */
async function pairwise<T>(items: readonly T[], work: (item: T) => Promise<void>): Promise<void> {
  const rest = [...items];
  const next = async (): Promise<void> => {
    for (let item = rest.shift(); item !== undefined; item = rest.shift()) await work(item);
  };
  await Promise.all([next(), next()]);
}

/** What `Onboard` answers, or that the process died. */
const onboard = (kms: KmsProcess, source: KmsProcess): Promise<string> =>
  fetch(`${kms.onboardUrl}/prpc/Onboard.Onboard?json`, {
    method: 'POST',
    body: JSON.stringify({ source_url: source.url, domain: '127.0.0.1' }),
    signal: AbortSignal.timeout(20_000),
  }).then(
    (response) => response.text(),
    () => 'died',
  );

async function onboarding(host: KmsHost, env: Record<string, string>): Promise<KmsProcess> {
  const kms = host.run({ preload: CRASH, env });
  await kms.until('onboarding listener started');
  return kms;
}

/** Kills nothing any more: onboards and serves. */
async function finishOnboarding(host: KmsHost, source: KmsProcess, expected: string): Promise<void> {
  const before = rootKey(host, 'root-k256.key');
  if (before === undefined) {
    expect(existsSync(join(host.certDir, 'root-ca.key'))).toBe(false);
    const kms = await onboarding(host, {});
    expect(JSON.parse(await onboard(kms, source)).k256_pubkey).toBe(expected);
    await kms.stop('SIGKILL');
  }
  expect(await expectWhole(host, before)).toBe(expected);
}

describe('crashes', () => {
  test('kill-during-bootstrap: killed at each file operation, the KMS comes back with one root or makes its first', async () => {
    const traced = await lab.host('traced', ONE);
    const trace = join(lab.directory, 'bootstrap-trace');
    await (await traced.serve({ preload: CRASH, env: { TEST_TRACE: trace } })).stop();
    const operations = traceOf(trace);
    const first = operations.findIndex((line) => line.includes('.pending')) + 1;
    const last = operations.findLastIndex((line) => line.includes('.pending')) + 3;
    expect(last - first).toBeGreaterThan(30);
    const kept: boolean[] = [];
    await pairwise(positions(first, last), async (position) => {
      const host = await lab.host(`bootstrap-${position}`, ONE);
      const killed = host.run({ preload: CRASH, env: { TEST_KILL_AT: String(position) } });
      await killed.ended();
      expect(killed.process.signalCode, `${position}: ${killed.output()}`).toBe('SIGKILL');
      const before = rootKey(host, 'root-k256.key');
      kept.push(before !== undefined);
      await expectWhole(host, before);
      rmSync(host.directory, { recursive: true });
    });
    // Both outcomes were seen, or the test would prove little.
    expect(new Set(kept)).toEqual(new Set([true, false]));
  }, 240_000);

  test('kill-during-bootstrap: killed at each network step, the KMS comes back with one root or makes its first', async () => {
    const traced = await lab.host('net-traced', ONE);
    const trace = join(lab.directory, 'bootstrap-net-trace');
    const steps = { TEST_STEPS: 'network' };
    const whole = await traced.serve({ preload: CRASH, env: { ...steps, TEST_TRACE: trace } });
    const count = traceOf(trace).length;
    await whole.stop('SIGKILL');
    expect(count).toBeGreaterThan(15);
    const kept: boolean[] = [];
    await pairwise(positions(1, count), async (position) => {
      const host = await lab.host(`bootstrap-net-${position}`, ONE);
      const killed = host.run({ preload: CRASH, env: { ...steps, TEST_KILL_AT: String(position) } });
      // Pieces are cut otherwise from run to run: the last step of one may be missing in another.
      await killed.until('dstack-kms started').catch(() => undefined);
      await killed.stop('SIGKILL');
      const before = rootKey(host, 'root-k256.key');
      kept.push(before !== undefined);
      await expectWhole(host, before);
      rmSync(host.directory, { recursive: true });
    });
    expect(new Set(kept)).toEqual(new Set([true, false]));
  }, 180_000);

  test('kill-during-onboard: killed at each file operation, the replica has all of the root or none', async () => {
    const source = await (await lab.host('source', ONE)).serve();
    const expected = (await metaOf(source)).k256_pubkey;
    const traced = await lab.host('onboard-traced', ONBOARD);
    const trace = join(lab.directory, 'onboard-trace');
    const kms = await onboarding(traced, { TEST_TRACE: trace });
    expect(JSON.parse(await onboard(kms, source)).k256_pubkey).toBe(expected);
    await kms.stop();
    const operations = traceOf(trace);
    const first = operations.findIndex((line) => line.includes('.pending')) + 1;
    const last = operations.findLastIndex((line) => line.includes('.pending')) + 1;
    await pairwise(positions(first, last), async (position) => {
      const host = await lab.host(`onboard-${position}`, ONBOARD);
      const killed = await onboarding(host, { TEST_KILL_AT: String(position) });
      expect(await onboard(killed, source)).toBe('died');
      await finishOnboarding(host, source, expected);
      rmSync(host.directory, { recursive: true });
    });

    await source.stop();
  }, 240_000);

  test('kill-during-onboard: killed at each network step, the replica has all of the root or none', async () => {
    const source = await (await lab.host('net-source', ONE)).serve();
    const expected = (await metaOf(source)).k256_pubkey;
    const steps = { TEST_STEPS: 'network' };
    const traced = await lab.host('onboard-net-traced', ONBOARD);
    const trace = join(lab.directory, 'onboard-net-trace');
    const kms = await onboarding(traced, { ...steps, TEST_TRACE: trace });
    expect(JSON.parse(await onboard(kms, source)).k256_pubkey).toBe(expected);
    const network = traceOf(trace);
    await kms.stop('SIGKILL');
    // To its agent, the source, the collateral service and its policy.
    expect(network.filter((line) => line.startsWith('connect')).length).toBeGreaterThanOrEqual(4);
    expect(network.length).toBeGreaterThan(25);
    let died = 0;
    await pairwise(positions(1, network.length), async (position) => {
      const host = await lab.host(`onboard-net-${position}`, ONBOARD);
      const killed = await onboarding(host, { ...steps, TEST_KILL_AT: String(position) });
      const outcome = await onboard(killed, source);
      if (outcome === 'died') died += 1;
      else expect(JSON.parse(outcome).k256_pubkey).toBe(expected);
      await killed.stop('SIGKILL');
      // Before there is anything on disk, one state is like the other: not each needs to be brought to its end.
      if (existsSync(host.certDir) || position % 6 === 0) await finishOnboarding(host, source, expected);
      rmSync(host.directory, { recursive: true });
    });
    expect(died).toBeGreaterThan(network.length - 5);
    await source.stop();
  }, 180_000);

  test('bootstrap-file-missing: with any one file gone, the KMS keeps its root or refuses to start, never makes another', async () => {
    const host = await lab.host('missing', ONE);
    await expectWhole(host, undefined);
    const original = new Map(
      readdirSync(host.certDir, { withFileTypes: true })
        .filter((entry) => entry.isFile())
        .map(({ name }) => [name, readFileSync(join(host.certDir, name))]),
    );
    expect(original.size).toBeGreaterThanOrEqual(9);
    await pairwise([...original.keys()], async (missing) => {
      const damaged = await lab.host(`missing-${missing}`, ONE);
      mkdirSync(damaged.certDir, { mode: 0o700 });
      for (const [name, data] of original) writeFileSync(join(damaged.certDir, name), data, { mode: 0o600 });
      unlinkSync(join(damaged.certDir, missing));
      if (missing.startsWith('root-') && missing.endsWith('.key')) {
        const kms = damaged.run();
        expect(await kms.ended()).not.toBe(0);
        expect(kms.output()).toMatch(/one root key without the other/);
        expect(existsSync(join(damaged.certDir, missing))).toBe(false);
      } else {
        await expectWhole(damaged, original.get('root-k256.key')?.toString('hex'));
      }
      for (const name of ['root-ca.key', 'root-k256.key'].filter((key) => key !== missing)) {
        expect(readFileSync(join(damaged.certDir, name))).toEqual(original.get(name));
      }
    });
    expect(fromHex(rootKey(host, 'root-k256.key') ?? '')).toHaveLength(32);
  }, 60_000);
});
