/** A new root: what it takes, what it leaves, who gets keys of the old one (docs/kms.md, "Rotate"). */
import { cpSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { verifyLog } from '@dstack-cloud/audit-log';
import { freePort } from '@dstack-cloud/vmm';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { callKms, errorOf } from '../harness/call-kms.ts';
import { getAppKey, type KmsHost, type KmsLab, labWorkload, startKmsLab } from '../harness/kms-lab.ts';
import type { KmsProcess } from '../harness/kms-process.ts';
import { subcommand, whileStopped } from '../harness/kms-subcommand.ts';
import { ALLOW, deny } from '../harness/policy-webhook.ts';
import { repository, runCommand } from '../harness/run-command.ts';

let lab: KmsLab;
let host: KmsHost;
let kms: KmsProcess;
beforeAll(async () => {
  lab = await startKmsLab();
  host = await lab.host('rotating', { rpc: { port: await freePort() } });
  kms = await host.serve();
}, 120_000);
afterAll(async () => lab?.stop());

type Keys = { disk_crypt_key: string; previous_keys?: { disk_crypt_key: string }[] };
type Roots = { root: string; k256_pubkey: string; retired: { root: string; k256_pubkey: string }[] };

const rootsOf = async (machine: KmsHost): Promise<Roots> => {
  const { code, output, result } = await subcommand(machine, ['roots']);
  expect(code, output).toBe(0);
  return result as Roots;
};
const rotate = async (...args: string[]): Promise<Record<string, unknown>> => {
  const { result, ...restarted } = await whileStopped(host, kms, 'rotate-root', ...args);
  kms = restarted.kms;
  return result;
};
const listed = (...previousKeyRoots: string[]): void => {
  lab.webhook.app = () => ({ isAllowed: true, reason: '', gatewayAppId: 'any', previousKeyRoots });
};

describe('rotation of the root', () => {
  test('root-rotation-in-use: a running key service is not rotated, and two commands do not both rotate', async () => {
    const refused = await subcommand(host, ['rotate-root']);
    expect(refused.code).toBe(1);
    expect(refused.output).toContain('Another process uses the keys');
    await kms.stop();
    const before = readFileSync(join(host.certDir, 'root-k256.key'));
    const had = (await rootsOf(host)).retired.length;
    // The first is kept in the middle, where it has the directory, until the second has ended.
    let goOn = (): void => undefined;
    const secondEnded = new Promise<void>((resolve) => {
      goOn = resolve;
    });
    const asked = new Promise<void>((resolve) => {
      lab.webhook.kms = async () => {
        resolve();
        await secondEnded;
        return ALLOW;
      };
    });
    const first = subcommand(host, ['rotate-root']);
    try {
      await Promise.race([asked, first]);
      const beside = await subcommand(host, ['rotate-root']);
      expect([beside.code, beside.output]).toEqual([
        1,
        expect.stringContaining('Another process uses the keys'),
      ]);
      expect(readFileSync(join(host.certDir, 'root-k256.key')).equals(before)).toBe(true);
    } finally {
      lab.webhook.kms = () => ALLOW;
      goOn();
    }
    const { code, output } = await first;
    expect(code, output).toBe(0);
    expect((await rootsOf(host)).retired).toHaveLength(had + 1);
    expect(readFileSync(join(host.certDir, 'root-k256.key')).equals(before)).toBe(false);
    kms = await host.serve();
  }, 60_000);

  test('audit-over-rotation: the log is followed from the old signer to the new one, and refused without a hand-over', async () => {
    const file = join(lab.directory, 'cli.json');
    writeFileSync(file, '{}', { mode: 0o600 });
    const verify = (url: string, signer: string) =>
      runCommand(
        [
          ...[join(repository, 'dist/bin/dstack-cloud'), '--json', 'kms', 'audit', 'verify'],
          ...['--url', url, '--trust-signer', signer, '--log', join(host.certDir, 'audit')],
        ],
        { env: { DSTACK_CLOUD_CONFIG: file } },
      );
    const rootKey = async () => JSON.parse((await callKms(kms.url, 'GetMeta')).body).k256_pubkey as string;
    const old = await rootKey();
    expect((await verify(kms.url, old)).code).toBe(0);
    const seen = readFileSync(join(lab.directory, 'audit-heads.json'), 'utf8');
    await rotate();
    const present = await rootKey();
    expect(present).not.toBe(old);
    const followed = await verify(kms.url, old);
    expect(followed.code, followed.stderr).toBe(0);
    const { head, continues, root_key: root } = JSON.parse(followed.stdout);
    expect([continues.size, head.size - continues.size, root]).toEqual([
      JSON.parse(seen)[kms.url].head.size,
      1,
      present,
    ]);
    expect((await verify(kms.url, present)).code).toBe(0);

    // A key service that cannot show a hand-over from what was seen, or from what is trusted.
    const other = await (await lab.host('other-root')).serve();
    const otherRoot = JSON.parse((await callKms(other.url, 'GetMeta')).body).k256_pubkey as string;
    const untrusted = await verify(other.url, old);
    expect([untrusted.code, untrusted.stderr]).toEqual([4, expect.stringContaining('not certified')]);
    const moved = JSON.stringify({ [other.url]: JSON.parse(seen)[kms.url] });
    writeFileSync(join(lab.directory, 'audit-heads.json'), moved);
    const replaced = await verify(other.url, otherRoot);
    expect(replaced.code).not.toBe(0);
    expect(replaced.stderr).toContain('has another signer than before');
  }, 60_000);

  test('root-rotation-kill: killed at any file operation of the command, the KMS serves the old root, or the new one with the old in its history', async () => {
    lab.webhook.app = () => ALLOW;
    const one = { rpc: { workers: 1 } };
    const base = await lab.host('kill-base', one);
    await (await base.serve()).stop();
    const old = await rootsOf(base);
    const copy = async (name: string): Promise<KmsHost> => {
      const made = await lab.host(name, one);
      cpSync(base.certDir, made.certDir, { recursive: true });
      return made;
    };
    const trace = join(lab.directory, 'rotation-trace');
    const traced = await copy('kill-traced');
    const preload = 'preload/crash.mjs';
    expect((await subcommand(traced, ['rotate-root'], { preload, env: { TEST_TRACE: trace } })).code).toBe(0);
    // Text that is written spans lines of its own.
    const operations = readFileSync(trace, 'utf8')
      .split('\n')
      .filter((line) => /^[a-zA-Z]+ /.test(line));
    const first = operations.findIndex((line) => line.includes('.rotation')) + 1;
    expect(operations.length - first).toBeGreaterThan(40);
    const stride = Math.ceil((operations.length - first) / 10);
    const outcomes: boolean[] = [];
    for (let at = first; at <= operations.length; at += stride) {
      const killed = await copy(`kill-${at}`);
      const run = killed.run({ args: ['rotate-root'], preload, env: { TEST_KILL_AT: String(at) } });
      await run.ended();
      expect(run.process.signalCode, run.output()).toBe('SIGKILL');
      const service = await killed.serve();
      const meta = JSON.parse((await callKms(service.url, 'GetMeta')).body);
      const rotated = meta.k256_pubkey !== old.k256_pubkey;
      outcomes.push(rotated);
      const history = (meta.root_history ?? []) as { k256_pubkey: string }[];
      expect(history.map((root) => root.k256_pubkey)).toEqual(rotated ? [old.k256_pubkey] : []);
      expect(meta.bootstrap_info.k256_pubkey).toBe(meta.k256_pubkey);
      await service.stop();
      // The log tells of it once, if it happened.
      const { records } = await verifyLog(join(killed.certDir, 'audit'), [], []);
      expect(records).toBe(rotated ? 1 : 0);
      expect(readdirSync(killed.certDir).filter((name) => name.startsWith('.'))).toEqual([]);
      rmSync(killed.directory, { recursive: true });
    }
    expect(new Set(outcomes)).toEqual(new Set([true, false]));
  }, 240_000);

  test('retired-root-not-released: keys of a retired root go to nobody whom the policy does not name, whatever he says that he holds', async () => {
    const workload = labWorkload('retired');
    lab.webhook.app = () => ALLOW;
    const keysOf = async () =>
      JSON.parse((await getAppKey(kms, await lab.identity(kms, workload))).body) as Keys;
    const before = await keysOf();
    const { root } = await rootsOf(host);
    await rotate('--retire', root);
    const askFor = async (rootId: string) =>
      callKms(
        kms.url,
        'GetAppKey',
        { api_version: 1, key_epoch: 0, root_id: rootId },
        await lab.identity(kms, workload),
      );
    const refused = await askFor(root);
    expect(refused.body).toContain('KEY_NOT_FOUND');
    expect(refused.body).not.toContain(before.disk_crypt_key);
    const present = await keysOf();
    expect(present.disk_crypt_key).not.toBe(before.disk_crypt_key);
    listed(root);
    const moving = JSON.parse((await askFor(root)).body) as Keys;
    expect(moving.disk_crypt_key).toBe(present.disk_crypt_key);
    expect(moving.previous_keys?.map((keys) => keys.disk_crypt_key)).toEqual([before.disk_crypt_key]);
    listed();
    expect((await askFor(root)).body).toContain('KEY_NOT_FOUND');
  }, 60_000);

  test('history-only-when-asked: another KMS gets the active root alone, unless it accepts the history; nobody else gets anything', async () => {
    lab.webhook.app = () => ALLOW;
    const { retired } = await rootsOf(host);
    expect(retired.length).toBeGreaterThan(0);
    const identity = await lab.identity(kms, labWorkload('another-kms'));
    const count = async (body: object) =>
      (JSON.parse((await callKms(kms.url, 'GetKmsKey', body, identity)).body) as { keys: unknown[] }).keys
        .length;
    expect(await count({ vm_config: '' })).toBe(1);
    expect(await count({ vm_config: '', accept_history: true })).toBe(1 + retired.length);
    expect(errorOf(await callKms(kms.url, 'GetKmsKey', { accept_history: true }))).toContain(
      'No attestation',
    );
    lab.webhook.kms = ({ appId }) => (appId?.startsWith('c5') ? ALLOW : deny('no KMS'));
    expect(errorOf(await callKms(kms.url, 'GetKmsKey', { accept_history: true }, identity))).toContain(
      'no KMS',
    );
    lab.webhook.kms = () => ALLOW;
  }, 60_000);
});
