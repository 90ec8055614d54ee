/** The root keys survive the loss of every machine, and nobody alone can bring them back. */
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { verifyLog } from '@dstack-cloud/audit-log';
import { generateIdentity, identityToRecipient } from 'age-encryption';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import {
  auditHead,
  getAppKey,
  type KmsHost,
  type KmsLab,
  labWorkload,
  startKmsLab,
} from '../harness/kms-lab.ts';
import { ALLOW, deny } from '../harness/policy-webhook.ts';

let lab: KmsLab;
beforeAll(async () => {
  lab = await startKmsLab();
}, 120_000);
afterAll(async () => lab?.stop());

/** Runs a subcommand in a machine. */
async function command(host: KmsHost, ...args: string[]) {
  const run = host.run({ args });
  const code = await run.ended();
  const lines = run.output().split('\n');
  const json = lines.findLast((line) => line.startsWith('{') && !line.includes('"level"'));
  return { code, output: run.output(), result: JSON.parse(json ?? '{}') as Record<string, unknown> };
}

describe('backup', () => {
  test('loss-and-recovery: after every machine is lost, two of three share holders bring the same root back, and only they', async () => {
    const workload = labWorkload('survivor');
    const first = await lab.host('first');
    const kms = await first.serve();
    const keys = JSON.parse((await getAppKey(kms, await lab.identity(kms, workload))).body);

    // Three people, each with a key of their own.
    const people = await Promise.all(
      ['alice', 'bob', 'carol'].map(async (name) => {
        const secret = await generateIdentity();
        const file = join(lab.directory, `${name}.key`);
        writeFileSync(file, `# ${name}\n${secret}\n`, { mode: 0o600 });
        return { name, file, recipient: `${name}=${await identityToRecipient(secret)}` };
      }),
    );
    const out = join(lab.directory, 'shares');
    const recipients = people.flatMap(({ recipient }) => ['--recipient', recipient]);
    const backup = ['backup', '--threshold', '2', ...recipients, '--out', out];
    const made = await command(first, ...backup);
    expect(made.code, made.output).toBe(0);
    const shares = people.map(({ name }) => join(out, `kms-share-${name}.age`));
    expect(made.result['shares']).toEqual(shares);
    for (const share of shares) {
      expect(statSync(share).mode & 0o777).toBe(0o600);
      expect(readFileSync(share).includes(readFileSync(join(first.certDir, 'root-k256.key')))).toBe(false);
    }
    expect((await command(first, ...backup)).output).toMatch(/exists/);

    // The loss.
    await kms.stop('SIGKILL');
    rmSync(first.directory, { recursive: true });

    const second = await lab.host('second');
    const identities = people.flatMap(({ file }) => ['--identity', file]);
    const restore = (...files: (string | undefined)[]) =>
      command(
        second,
        'restore',
        ...files.flatMap((file) => ['--share', file ?? '']),
        ...identities,
        ...['--domain', '127.0.0.1'],
      );
    const roots = () =>
      existsSync(second.certDir)
        ? readdirSync(second.certDir).filter((name) => name.startsWith('root-'))
        : [];

    // Too few, one twice, one that was changed, the wrong person, a machine that the policy does not know.
    const changed = join(lab.directory, 'changed.age');
    const bytes = readFileSync(shares[1] ?? '');
    bytes.writeUInt8(bytes.readUInt8(bytes.length - 1) ^ 1, bytes.length - 1);
    writeFileSync(changed, bytes);
    for (const [files, text] of [
      [[shares[0]], /2 different shares are needed/],
      [[shares[0], shares[0]], /2 different shares are needed/],
      [[shares[0], changed], /damaged/],
    ] as const) {
      const refused = await restore(...files);
      expect(refused.code).toBe(1);
      expect(refused.output).toMatch(text);
      expect(roots()).toEqual([]);
    }
    const stranger = await command(
      second,
      ...['restore', '--share', shares[0] ?? '', '--share', shares[1] ?? ''],
      ...['--identity', people[2]?.file ?? '', '--domain', '127.0.0.1'],
    );
    expect(stranger.output).toMatch(/none of the identities/);
    lab.webhook.kms = () => deny('Aggregated MR not allowed');
    const denied = await restore(shares[0], shares[1]);
    expect(denied.code).toBe(1);
    expect(denied.output).toContain('KMS is not allowed to restore: boot denied: Aggregated MR not allowed');
    expect(roots()).toEqual([]);

    // The policy knows it: any two are enough.
    lab.webhook.kms = () => ({ isAllowed: true, reason: '', gatewayAppId: 'any' });
    const restored = await restore(shares[2], shares[1]);
    expect(restored.code, restored.output).toBe(0);
    expect(restored.result['k256_pubkey']).toBe(made.result['k256_pubkey']);
    for (const name of ['root-ca.key', 'root-k256.key', 'tmp-ca.key']) {
      expect(statSync(join(second.certDir, name)).mode & 0o777).toBe(0o600);
    }
    const again = await second.serve();
    const answer = await getAppKey(again, await lab.identity(again, workload));
    expect(answer.status, answer.body).toBe(200);
    const after = JSON.parse(answer.body);
    for (const name of ['disk_crypt_key', 'env_crypt_key', 'k256_key', 'k256_signature']) {
      expect(after[name], name).toBe(keys[name]);
    }
    // Existing roots are never replaced, not even by themselves.
    const twice = await restore(shares[0], shares[1]);
    expect(twice.code).toBe(1);
    expect(twice.output).toMatch(/never replaced/);

    // Nor into another directory that has roots; an empty one is fine.
    const elsewhere = join(lab.directory, 'elsewhere');
    mkdirSync(elsewhere, { mode: 0o700 });
    const moved = await command(
      second,
      ...['restore', '--share', shares[0] ?? '', '--share', shares[1] ?? '', ...identities],
      ...['--domain', '127.0.0.1', '--cert-dir', elsewhere],
    );
    expect(moved.code, moved.output).toBe(0);
    expect(readFileSync(join(elsewhere, 'root-k256.key'))).toEqual(
      readFileSync(join(second.certDir, 'root-k256.key')),
    );
    // No secret of any kind was written to a terminal or a log.
    const everything = [made, denied, restored, twice, moved].map(({ output }) => output).join('');
    expect(everything).not.toContain('AGE-SECRET-KEY');
    expect(everything).not.toContain(readFileSync(join(elsewhere, 'root-k256.key')).toString('hex'));
    await again.stop('SIGKILL');
  }, 60_000);

  test('loss-after-rotation: the retired roots come back with the active one, and a share set of before restores what was before', async () => {
    const first = await lab.host('rotated-first');
    const secret = await Promise.all([generateIdentity(), generateIdentity()]);
    const files = secret.map((identity, index) => {
      const file = join(lab.directory, `r${index}.key`);
      writeFileSync(file, `${identity}\n`, { mode: 0o600 });
      return file;
    });
    const recipients = await Promise.all(
      secret.map(async (identity, index) => `r${index}=${await identityToRecipient(identity)}`),
    );
    const backupTo = (out: string) =>
      command(
        first,
        ...['backup', '--threshold', '2', '--out', out],
        ...recipients.flatMap((recipient) => ['--recipient', recipient]),
      );
    const [before, after] = ['shares-before', 'shares-after'].map((name) => join(lab.directory, name)) as [
      string,
      string,
    ];
    await (await first.serve()).stop();
    const old = (await command(first, 'roots')).result;
    expect((await backupTo(before)).result['retired_roots']).toBeUndefined();
    const rotated = await command(first, 'rotate-root');
    expect(rotated.code, rotated.output).toBe(0);
    expect((await backupTo(after)).result['retired_roots']).toEqual([old['root']]);

    const second = await lab.host('rotated-second');
    const restore = (out: string, certDir: string) =>
      command(
        second,
        ...['restore', '--domain', '127.0.0.1', '--cert-dir', certDir],
        ...['r0', 'r1'].flatMap((name) => ['--share', join(out, `kms-share-${name}.age`)]),
        ...files.flatMap((file) => ['--identity', file]),
      );
    const restored = await restore(after, second.certDir);
    expect(restored.code, restored.output).toBe(0);
    for (const name of ['root-k256.key', join('roots', String(old['root']), 'root-k256.key')]) {
      expect(readFileSync(join(second.certDir, name))).toEqual(readFileSync(join(first.certDir, name)));
    }
    expect((await command(second, 'roots')).result).toMatchObject({
      root: rotated.result['root'],
      retired: [{ root: old['root'], k256_pubkey: old['k256_pubkey'], successor: rotated.result['root'] }],
    });
    const earlier = await restore(before, join(lab.directory, 'restored-before'));
    expect(earlier.result['k256_pubkey']).toBe(old['k256_pubkey']);
    // An application that is held at the retired root gets there what it got before the loss.
    lab.webhook.app = () => ({
      isAllowed: true,
      reason: '',
      gatewayAppId: 'any',
      keyRoot: String(old['root']),
    });
    const kms = await second.serve();
    const { body } = await getAppKey(kms, await lab.identity(kms, labWorkload('held')));
    expect(JSON.parse(body).root_id).toBe(old['root']);
    await kms.stop('SIGKILL');
  }, 90_000);

  test('replica-after-rotation: a replica takes over the new root and the history, and its own log goes on', async () => {
    lab.webhook.app = () => ALLOW;
    const source = await lab.host('source');
    const first = await source.serve();
    const onboarding = { core: { onboard: { auto_bootstrap_domain: '' } } };
    const host = await lab.host('replica', onboarding);
    const onboard = async (from: string) => {
      const run = host.run();
      await run.until('onboarding listener started');
      const post = (method: string, body: object) =>
        fetch(`${run.onboardUrl}/prpc/${method}?json`, { method: 'POST', body: JSON.stringify(body) });
      const answer = await post('Onboard.Onboard', { source_url: from, domain: '127.0.0.1' });
      expect(answer.status, await answer.clone().text()).toBe(200);
      await post('Onboard.Finish', {});
      await run.until('dstack-kms started');
      return run;
    };
    const replica = await onboard(first.url);
    expect((await getAppKey(replica, await lab.identity(replica, labWorkload('any')))).status).toBe(200);
    const before = await auditHead(replica);
    await Promise.all([first.stop(), replica.stop()]);
    const { result } = await command(source, 'rotate-root');
    const second = await source.serve();
    // As documented: everything but the audit log leaves the key directory.
    for (const name of readdirSync(host.certDir).filter((file) => file !== 'audit')) {
      rmSync(join(host.certDir, name), { recursive: true });
    }
    const again = await onboard(second.url);
    const after = await auditHead(again);
    expect((await command(host, 'roots')).result).toMatchObject({ root: result['root'] });
    expect(after.publicKey).not.toEqual(before.publicKey);
    const keys = [before.publicKey, after.publicKey];
    const { records } = await verifyLog(join(host.certDir, 'audit'), keys, [before.signed, after.signed]);
    expect([before.signed['size'], records]).toEqual([1, 2]);
    await Promise.all([second.stop('SIGKILL'), again.stop('SIGKILL')]);
  }, 90_000);
});
