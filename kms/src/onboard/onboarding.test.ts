import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Listener } from '../server/listen.ts';
import type { RunningKms } from '../start-kms.ts';
import { ask, call } from '../test/ask.ts';
import { type Lab, openLab } from '../test/lab.ts';

let lab: Lab;
beforeAll(async () => {
  lab = await openLab();
});
afterAll(() => lab.close());

type Onboarding = { port: number; serving: Promise<RunningKms>; stop: AbortController; directory: string };

/** Starts a KMS without keys and waits for its onboarding listener. */
async function onboard(name: string, core: Record<string, unknown> = {}): Promise<Onboarding> {
  const stop = new AbortController();
  const directory = join(lab.directory, name);
  let up: (listener: Listener) => void = () => undefined;
  const listening = new Promise<Listener>((resolve) => {
    up = resolve;
  });
  const serving = lab.start({
    directory,
    keys: false,
    core,
    options: { signal: stop.signal, onOnboarding: (listener) => up(listener) },
  });
  serving.catch(() => undefined);
  const { port } = await listening;
  return { port, serving, stop, directory };
}

const plain = { plain: true };

describe('onboarding listener (docs/protocol/kms.md section 6)', () => {
  test('bootstrap once, finish, then HTTPS in the same process', async () => {
    const { port, serving, directory } = await onboard('bootstrap');
    expect((await ask(port, '/health', { method: 'GET', ...plain })).body.toString()).toBe('OK');
    const page = await ask(port, '/', { method: 'GET', ...plain });
    expect(page.body.toString()).not.toMatch(/src=|href=|https?:\/\/(?!other-kms)/);
    expect(page.headers['content-security-policy']).toContain("default-src 'none'");
    expect((await call(port, 'KMS.GetMeta', {}, plain)).json['error']).toBe('Service not found: KMS.GetMeta');
    expect((await ask(port, '/finish', { method: 'GET', ...plain })).status).toBe(409);

    const openApi = await ask(port, '/prpc/openapi.json', { method: 'GET', ...plain });
    expect(JSON.parse(openApi.body.toString())).toMatchObject({
      paths: {
        '/prpc/Bootstrap': {},
        '/prpc/Onboard': {},
        '/prpc/GetAttestationInfo': {},
        '/prpc/Finish': {},
      },
    });
    const info = await call(port, 'GetAttestationInfo', {}, plain);
    expect(info.json).toMatchObject({
      attestation_mode: 'dstack-tdx',
      tee_variant: 'dstack-tdx',
      simulated: true,
    });
    expect(info.json['mr_aggregated']).toMatch(/^[0-9a-f]{64}$/);

    for (const [domain, error] of [
      ['', 'domain must be a non-empty ASCII DNS name of at most 253 bytes'],
      ['ü.example', 'domain must be a non-empty ASCII DNS name of at most 253 bytes'],
      ['-a.example', 'domain contains an invalid DNS label'],
      ['fe80::1%eth0', 'domain contains an invalid DNS label'],
    ]) {
      expect((await call(port, 'Bootstrap', { domain }, plain)).json['error']).toBe(error);
    }
    const [first, second] = await Promise.all([
      call(port, 'Bootstrap', { domain: 'localhost' }, plain),
      call(port, 'Bootstrap', { domain: 'localhost' }, plain),
    ]);
    expect([first.status, second.status].sort()).toEqual([200, 400]);
    const [done, refused] = first.status === 200 ? [first, second] : [second, first];
    expect(refused.json['error']).toBe('KMS has already been bootstrapped');
    expect(done.json['publicKey']).toBe(done.json['k256_pubkey']);
    expect(done.json['measurement']).toBe(info.json['mr_aggregated']);
    const keys = readFileSync(join(directory, 'root-k256.key')).toString('hex');

    expect((await ask(port, '/finish', { method: 'GET', ...plain })).body.toString()).toBe('OK');
    const { main } = await serving;
    const meta = await call(main.port, 'GetMeta');
    expect(meta.json['k256_pubkey']).toBe(done.json['k256_pubkey']);
    expect(meta.json['bootstrap_info']).toMatchObject({ ca_pubkey: done.json['ca_pubkey'] });
    expect(meta.json['simulated']).toBe(true);
    expect(readFileSync(join(directory, 'root-k256.key')).toString('hex')).toBe(keys);
  });

  test('Onboard.Finish answers before keys and after', async () => {
    const { port, serving } = await onboard('finish');
    expect((await call(port, 'Onboard.Finish', {}, plain)).status).toBe(409);
    await call(port, 'Bootstrap', { domain: '127.0.0.1' }, plain);
    const answer = await ask(port, '/prpc/Onboard.Finish?json', plain);
    expect([answer.status, answer.body.toString()]).toEqual([200, 'null']);
    expect((await call((await serving).main.port, 'GetMeta')).status).toBe(200);
  });

  test('a KMS that the policy does not know is not bootstrapped', async () => {
    const { port, directory, stop } = await onboard('denied');
    const reason = 'Aggregated MR not allowed';
    lab.webhook.policy = { kms: { body: { isAllowed: false, gatewayAppId: '', reason } } };
    const denied = await call(port, 'Bootstrap', { domain: 'localhost' }, plain);
    expect(denied.json['error']).toBe(`KMS is not allowed to bootstrap: boot denied: ${reason}`);
    lab.webhook.policy = { kms: { status: 500, raw: 'boom' } };
    const failed = await call(port, 'Bootstrap', { domain: 'localhost' }, plain);
    expect(failed.json['error']).toMatch(/^KMS is not allowed to bootstrap: failed to call KMS auth check: /);
    lab.webhook.policy = {};
    expect(readdirSync(directory)).toEqual([]);
    stop.abort();
  });

  test('with a token, only its holder gets further, and no other web site', async () => {
    const { port, stop } = await onboard('token', {
      onboard: { address: '127.0.0.1', port: 0, token: 'let-me' },
    });
    const path = '/prpc/GetAttestationInfo?json';
    const status = async (headers: Record<string, string>) =>
      (await ask(port, path, { ...plain, headers })).status;
    expect(await status({})).toBe(401);
    expect(await status({ Authorization: 'Bearer let-m' })).toBe(401);
    expect(await status({ Authorization: 'Bearer let-me' })).toBe(200);
    for (const [name, value] of [
      ['Origin', 'https://evil.example'],
      ['Origin', 'null'],
      ['Referer', 'http://evil.example/page'],
      ['Sec-Fetch-Site', 'cross-site'],
    ] as const) {
      expect(await status({ Authorization: 'Bearer let-me', [name]: value })).toBe(403);
    }
    expect(await status({ Authorization: 'Bearer let-me', Origin: `http://127.0.0.1:${port}` })).toBe(200);
    stop.abort();
  });

  test('the names of newer releases: auth_token, htpasswd_file, X-Onboard-Token', async () => {
    const users = join(lab.directory, 'onboard-users');
    // crypt_blowfish's own vector for "U*U", at cost 5.
    writeFileSync(users, 'alice:$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW\n');
    const both = { address: '127.0.0.1', port: 0, auth_token: 'let-me', htpasswd_file: users };
    const { port, stop } = await onboard('auth-token', { onboard: both });
    const path = '/prpc/GetAttestationInfo?json';
    const status = async (headers: Record<string, string>) =>
      (await ask(port, path, { ...plain, headers })).status;
    const basic = (pair: string): Record<string, string> => ({
      Authorization: `Basic ${Buffer.from(pair).toString('base64')}`,
    });
    expect(await status({})).toBe(401);
    expect(await status({ 'X-Onboard-Token': 'let-m' })).toBe(401);
    expect(await status({ 'X-Admin-Token': 'let-me' })).toBe(401);
    expect(await status({ 'X-Onboard-Token': 'let-me' })).toBe(200);
    expect(await status({ Authorization: 'Bearer let-me' })).toBe(200);
    expect(await status(basic('anybody:let-me'))).toBe(200);
    expect(await status(basic('alice:U*U'))).toBe(200);
    expect(await status(basic('alice:wrong'))).toBe(401);
    expect((await ask(port, '/finish?token=let-me', plain)).status).toBe(401);
    stop.abort();
  });

  test('users alone close the listener too', async () => {
    const users = join(lab.directory, 'onboard-users-alone');
    writeFileSync(users, 'alice:$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW\n');
    const { port, stop } = await onboard('users', {
      onboard: { address: '127.0.0.1', port: 0, htpasswd_file: users },
    });
    const status = async (headers: Record<string, string>) =>
      (await ask(port, '/prpc/GetAttestationInfo?json', { ...plain, headers })).status;
    expect(await status({})).toBe(401);
    // An empty token lets nobody in who shows an empty one.
    expect(await status({ 'X-Onboard-Token': '' })).toBe(401);
    expect(await status({ Authorization: 'Bearer ' })).toBe(401);
    expect(await status({ Authorization: 'Basic Og==' })).toBe(401);
    expect(await status({ Authorization: `Basic ${Buffer.from('alice:U*U').toString('base64')}` })).toBe(200);
    stop.abort();
  });

  test('stopped before keys: an error, nothing on disk', async () => {
    const { serving, stop, directory } = await onboard('stopped');
    stop.abort();
    await expect(serving).rejects.toThrow('Failed to onboard');
    expect(readdirSync(directory)).toEqual([]);
  });

  test('auto-bootstrap makes keys once and writes bootstrap-info.json', async () => {
    const directory = join(lab.directory, 'auto');
    const core = { onboard: { auto_bootstrap_domain: 'localhost' } };
    const first = await lab.start({ directory, keys: false, core });
    const pubkey = first.kms.keys.k256Pubkey;
    expect(first.kms.keys.bootstrapInfo?.k256Pubkey).toEqual(pubkey);
    await first.close();
    const again = await lab.start({ directory, keys: false, core });
    expect(again.kms.keys.k256Pubkey).toEqual(pubkey);
  });
});
