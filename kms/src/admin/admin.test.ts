import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { encodeAttestation } from '@dstack-cloud/attestation';
import { toHex } from '@dstack-cloud/encoding';
import { DEBUG_ATTRIBUTES } from '@dstack-cloud/tee-simulator';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import type { RunningKms } from '../start-kms.ts';
import { ask, call } from '../test/ask.ts';
import { type Lab, openLab } from '../test/lab.ts';

const TOKEN = 'admin-token';
// `htpasswd -nbB alice correct` in the form of crypt_blowfish's own vector for "U*U".
const HTPASSWD = 'alice:$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW\n# comment\n\n';

let lab: Lab;
let kms: RunningKms;
let port: number;
beforeAll(async () => {
  lab = await openLab();
  const htpasswd = join(lab.directory, 'htpasswd');
  writeFileSync(htpasswd, HTPASSWD);
  kms = await lab.start({
    core: {
      admin: { enabled: true, port: 0, auth_token: TOKEN, htpasswd_file: htpasswd },
      admin_token_hash: createHash('sha256').update('v06-token').digest('hex'),
      image: { cache_dir: join(lab.directory, 'images-cache') },
    },
  });
  port = kms.admin!.port;
});
afterEach(() => {
  lab.webhook.policy = {};
});
afterAll(() => lab.close());

const basic = (user: string, password: string): string =>
  `Basic ${Buffer.from(`${user}:${password}`).toString('base64')}`;

describe('credentials (docs/protocol/kms.md section 7)', () => {
  test.each([
    [{ Authorization: `Bearer ${TOKEN}` }, 200],
    [{ 'X-Admin-Token': TOKEN }, 200],
    [{ Authorization: basic('anybody', TOKEN) }, 200],
    [{ Authorization: basic(TOKEN, '') }, 200],
    [{ Authorization: basic('alice', 'U*U') }, 200],
    [{ Authorization: basic('alice', 'U*V') }, 401],
    [{ Authorization: basic('bob', 'U*U') }, 401],
    [{ Authorization: basic('alice', '') }, 401],
    [{ Authorization: `bearer ${TOKEN}` }, 401],
    [{ Authorization: 'Bearer ' }, 401],
    [{ Authorization: 'Basic ???' }, 401],
    [{ 'X-Admin-Token': '' }, 401],
    [{}, 401],
  ] as [Record<string, string>, number][])('%j: %i', async (headers, status) => {
    const answer = await ask(port, '/prpc/Admin.ClearImageCache?json', { plain: true, headers, body: '{}' });
    expect(answer.status).toBe(status);
    if (status === 401) {
      expect(answer.body).toHaveLength(0);
      expect(answer.headers['www-authenticate']).toBe('Basic realm="dstack-kms admin"');
    }
  });

  test.each([
    [{ Origin: 'https://evil.example' }, 403],
    [{ Origin: 'null' }, 403],
    [{ Referer: 'https://evil.example/page' }, 403],
    [{ 'Sec-Fetch-Site': 'cross-site' }, 403],
    [{ 'Sec-Fetch-Site': 'none' }, 200],
  ] as [Record<string, string>, number][])('a browser that remembers them: %j: %i', async (sent, status) => {
    const headers = { Authorization: basic('alice', 'U*U'), ...sent };
    const path = '/prpc/Admin.ClearImageCache?image_hash=00';
    expect((await ask(port, path, { plain: true, method: 'GET', headers })).status).toBe(status);
  });

  test('every path wants them', async () => {
    for (const path of ['/', '/health', '/prpc/Nope', '/prpc/openapi.json', '/metrics']) {
      expect((await ask(port, path, { plain: true, method: 'GET' })).status).toBe(401);
    }
  });

  test('who has them may read what there is to call', async () => {
    const headers = { Authorization: `Bearer ${TOKEN}` };
    const { body } = await ask(port, '/prpc/openapi.json', { plain: true, method: 'GET', headers });
    const { paths } = JSON.parse(body.toString()) as { paths: object };
    expect(Object.keys(paths)).toEqual(['/prpc/ClearImageCache', '/prpc/CheckBoot', '/prpc/GetAuditLog']);
  });

  test('an htpasswd file without bcrypt is refused at start', async () => {
    const file = join(lab.directory, 'plain');
    writeFileSync(file, 'alice:{SHA}xxxx\n');
    await expect(
      lab.start({ core: { admin: { enabled: true, port: 0, htpasswd_file: file } } }),
    ).rejects.toThrow('must hold bcrypt entries');
  });
});

const admin = (method: string, input: unknown) =>
  ask(port, `/prpc/Admin.${method}?json`, {
    plain: true,
    headers: { Authorization: `Bearer ${TOKEN}` },
    body: JSON.stringify(input),
  }).then(({ status, body }) => ({ status, json: JSON.parse(body.toString()) as Record<string, unknown> }));

describe('Admin.CheckBoot', () => {
  test('says what evidence is and whether it would get keys, and releases none', async () => {
    const guest = lab.guest();
    const attestation = toHex(encodeAttestation(guest.attest(new Uint8Array(64))));
    const { json } = await admin('CheckBoot', { attestation });
    expect(json).toMatchObject({
      is_allowed: true,
      attestation_mode: 'dstack-tdx',
      app_id: '11'.repeat(20),
      os_image_hash: guest.osImageHash,
      tcb_status: 'UpToDate',
      simulated: true,
    });
    lab.webhook.policy = { app: { body: { isAllowed: false, gatewayAppId: '', reason: 'no' } } };
    expect((await admin('CheckBoot', { attestation })).json).toMatchObject({
      is_allowed: false,
      reason: 'no',
    });
    const debug = lab.guest({ td: { tdAttributes: DEBUG_ATTRIBUTES } }).attest(new Uint8Array(64));
    const refused = await admin('CheckBoot', { attestation: toHex(encodeAttestation(debug)) });
    expect([refused.status, refused.json['error']]).toEqual([
      400,
      expect.stringMatching(/^invalid quote: .*debug/i),
    ]);
    expect((await admin('CheckBoot', { attestation: '00' })).status).toBe(400);
  });
});

test('Admin.GetAuditLog pages through the records', async () => {
  const client = lab.client(lab.guest());
  for (let i = 0; i < 3; i++) await call(kms.main.port, 'GetAppKey', {}, { client });
  const { json } = await admin('GetAuditLog', { from_seq: 1, limit: 1 });
  const records = (json['records'] as string[]).map((line) => JSON.parse(line) as { seq: number });
  expect(records.map(({ seq }) => seq)).toEqual([1]);
  expect((json['head'] as { tree_size: number }).tree_size).toBeGreaterThanOrEqual(3);
});

describe('ClearImageCache', () => {
  const cache = (): string => join(lab.directory, 'images-cache');
  const fill = (): void => {
    mkdirSync(join(cache(), 'images/cafe'), { recursive: true });
    mkdirSync(join(cache(), 'measurements'), { recursive: true });
    writeFileSync(join(cache(), 'measurements/beef.json'), '{}');
  };

  test('removes one entry, all, or nothing', async () => {
    fill();
    await admin('ClearImageCache', { image_hash: '', config_hash: '' });
    expect(existsSync(join(cache(), 'images/cafe'))).toBe(true);
    await admin('ClearImageCache', { image_hash: 'CAFE', config_hash: 'beef' });
    expect([
      existsSync(join(cache(), 'images/cafe')),
      existsSync(join(cache(), 'measurements/beef.json')),
    ]).toEqual([false, false]);
    fill();
    await admin('ClearImageCache', { image_hash: 'all', config_hash: 'all' });
    expect(existsSync(join(cache(), 'images'))).toBe(false);
  });

  test.each(['../x', 'cafe/../..', '..', 'ALL', '/etc'])('refuses %s', async (image_hash) => {
    const { status, json } = await admin('ClearImageCache', { image_hash });
    expect([status, json['error']]).toEqual([400, 'failed to clear image cache: invalid cache key']);
  });

  test('the v0.6 method on the main listener wants its token', async () => {
    fill();
    const clear = (token: string) =>
      call(kms.main.port, 'KMS.ClearImageCache', { token, image_hash: 'all', config_hash: '' });
    expect((await clear('wrong')).json['error']).toBe('Invalid token');
    expect((await clear('v06-token')).status).toBe(200);
    expect(existsSync(join(cache(), 'images'))).toBe(false);
  });
});
