/** A policy source that changes its mind, lies, or hangs; hostile signing requests; scarce resources. */
import { once } from 'node:events';
import { readFileSync, rmSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { ratlsReportData } from '@dstack-cloud/attestation';
import { decodePem, toHex } from '@dstack-cloud/encoding';
import { generateP256Key } from '@dstack-cloud/keys';
import { encodeCsrV2, parseRaTlsCertificate, signCsr } from '@dstack-cloud/ra-tls';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import type { RunningKms } from '../start-kms.ts';
import { ask, type ClientIdentity, call } from '../test/ask.ts';
import { keptConnection } from '../test/kept-connection.ts';
import { LAB_NOW, type Lab, openLab } from '../test/lab.ts';

let lab: Lab;
let kms: RunningKms;
beforeAll(async () => {
  lab = await openLab();
  kms = await lab.start();
});
afterEach(() => {
  lab.webhook.policy = {};
});
afterAll(() => lab.close());

const keyRequest = { api_version: 1, vm_config: '' };
const getAppKey = (client?: ClientIdentity, vmConfig = '') =>
  call(kms.main.port, 'GetAppKey', { ...keyRequest, vm_config: vmConfig }, { client });

const deny = (reason: string) => ({ body: { isAllowed: false, gatewayAppId: '', reason } });

function signRequest(
  overrides: Partial<Parameters<typeof encodeCsrV2>[0]['config']> = {},
): Record<string, unknown> {
  const key = generateP256Key();
  const csr = encodeCsrV2({
    confirm: 'please sign cert:',
    pubkey: key.spki,
    config: {
      subject: 'app.example.com',
      subjectAltNames: ['app.example.com', '10.0.0.1'],
      usageServerAuth: true,
      usageClientAuth: false,
      extQuote: true,
      extAppInfo: true,
      ...overrides,
    },
    attestation: lab.guest().attest(ratlsReportData(key.spki)),
  });
  return { api_version: 2, csr: toHex(csr), signature: toHex(signCsr(csr, key)) };
}
describe('policy', () => {
  test('revoked-between-requests: the next request on the same connection is refused', async () => {
    const connection = keptConnection(kms.main.port, lab.client(lab.guest()));
    const first = await connection.post('GetAppKey', keyRequest);
    expect([first.status, first.reused]).toEqual([200, false]);
    lab.webhook.policy = { app: deny('Compose hash not allowed') };
    const second = await connection.post('GetAppKey', keyRequest);
    expect([second.status, second.reused]).toEqual([400, true]);
    expect(second.json).toMatchObject({
      error: 'App not allowed: Boot denied: Compose hash not allowed',
      code: 'MEASUREMENT_NOT_FOUND',
    });
    // And allowed again, it is served again.
    lab.webhook.policy = {};
    const third = await connection.post('GetAppKey', keyRequest);
    expect([third.status, third.reused]).toEqual([200, true]);
    connection.close();
  });

  test('webhook-hangs: the answer comes in time and is a refusal', async () => {
    const webhook = { url: lab.webhook.url, timeout: '1s' };
    const hurried = await lab.start({ core: { auth_api: { type: 'webhook', webhook } } });
    lab.webhook.policy = { app: { delayMs: 5_000, body: { isAllowed: true, gatewayAppId: '', reason: '' } } };
    const started = performance.now();
    const { status, json } = await call(hurried.main.port, 'GetAppKey', keyRequest, {
      client: lab.client(lab.guest()),
    });
    expect([status, json['code']]).toEqual([400, 'UNAVAILABLE']);
    expect(performance.now() - started).toBeLessThan(4_000);
  });

  test('auth-answer-multibyte: a long answer is cut between characters, and ends nothing', async () => {
    const reasonOf = async (reason: string): Promise<unknown> => {
      lab.webhook.policy = { app: deny(reason) };
      return (await getAppKey(lab.client(lab.guest()))).json['error'];
    };
    // 512 bytes of it are shown; the 512th lies within a character in the second case and the third.
    const refused = 'App not allowed: Boot denied: ';
    expect(await reasonOf('ä'.repeat(2000))).toBe(`${refused}${'ä'.repeat(256)}`);
    expect(await reasonOf(`x${'ä'.repeat(2000)}`)).toBe(`${refused}x${'ä'.repeat(255)}`);
    expect(await reasonOf(`xx${'😀'.repeat(2000)}`)).toBe(`${refused}xx${'😀'.repeat(127)}`);
    // An answer that allows, with a text that nobody asked for: what ended the original.
    const allowed = { isAllowed: true, gatewayAppId: '', reason: `a${'é'.repeat(600)}` };
    lab.webhook.policy = { app: { body: allowed }, kms: { body: allowed } };
    expect((await getAppKey(lab.client(lab.guest()))).status).toBe(200);
    for (const raw of ['é'.repeat(600), `x${'é'.repeat(600)}`]) {
      lab.webhook.policy = { app: { raw }, kms: { raw } };
      const { status, json } = await getAppKey(lab.client(lab.guest()));
      expect([status, json['code']]).toEqual([400, 'UNAVAILABLE']);
    }
    lab.webhook.policy = {};
    expect((await ask(kms.main.port, '/health', { method: 'GET' })).body.toString()).toBe('OK');
  });

  test('inner-address: what a client hears has no address of the auth API in it', async () => {
    lab.webhook.policy = { app: { status: 500, raw: `at ${lab.webhook.url}/secret-path` } };
    const { json } = await getAppKey(lab.client(lab.guest()));
    expect(JSON.stringify(json)).not.toContain('127.0.0.1');
  });
});

describe('SignCert', () => {
  test('signs for the attested app, with what was verified', async () => {
    const { status, json } = await call(kms.main.port, 'SignCert', signRequest());
    expect(status).toBe(200);
    const [leaf] = (json['certificate_chain'] as string[]).map((pem) =>
      parseRaTlsCertificate(decodePem(pem, 'CERTIFICATE')),
    );
    expect(leaf).toMatchObject({ usage: 'app:custom', appId: new Uint8Array(20).fill(0x11) });
    expect(toHex(leaf!.appInfo!.deviceId)).not.toMatch(/^e3b0c442/);
    expect(leaf!.attestation).toBeDefined();
  });

  test.each([
    ['signcert-year-10000', { notAfter: 253_402_300_800n }],
    ['signcert-u64-max', { notAfter: 0xffff_ffff_ffff_ffffn }],
    ['signcert-beyond-ten-years', { notAfter: BigInt(LAB_NOW + 3651 * 86_400) }],
    ['signcert-kms-domain', { subjectAltNames: ['a.example', 'LOCALHOST.'] }],
    ['signcert-kms-subject', { subject: 'localhost' }],
    ['signcert-nul', { subject: 'a\u0000b' }],
    [
      'signcert-101-names',
      { subjectAltNames: Array.from({ length: 101 }, (_, index) => `n${index}.example`) },
    ],
  ])('%s: refused, and the KMS lives on', async (_, config) => {
    lab.webhook.asked.length = 0;
    const { status, json } = await call(kms.main.port, 'SignCert', signRequest(config));
    expect([status, json['code']]).toEqual([400, 'INVALID_ARGUMENT']);
    expect(json['error']).toMatch(/^Failed to sign certificate: /);
    // Before evidence is looked at and anybody is asked.
    expect(lab.webhook.asked).toEqual([]);
    expect((await call(kms.main.port, 'GetMeta')).status).toBe(200);
  });
});

describe('resources', () => {
  test('silent-connection: a connection that says nothing is closed', async () => {
    const hurried = await lab.start({ rpc: { tls: { handshake_timeout: '1s' } } });
    const socket = connect(hurried.main.port, '127.0.0.1');
    await once(socket, 'connect');
    const started = performance.now();
    socket.resume();
    await once(socket, 'close');
    expect(performance.now() - started).toBeLessThan(5_000);
  });

  test('rate-limits: open calls by address, attested calls by workload', async () => {
    const rate_limit = {
      enabled: true,
      open_per_minute: 1,
      open_burst: 3,
      attested_per_minute: 1,
      attested_burst: 2,
    };
    const strict = await lab.start({ core: { rate_limit } });
    const open = [];
    for (let i = 0; i < 5; i++) open.push((await call(strict.main.port, 'GetMeta')).status);
    expect(open).toEqual([200, 200, 200, 429, 429]);
    const client = lab.client(lab.guest());
    const attested = [];
    for (let i = 0; i < 3; i++) {
      attested.push((await call(strict.main.port, 'GetAppKey', keyRequest, { client })).status);
    }
    expect(attested).toEqual([200, 200, 429]);
    const other = lab.client(lab.guest({ instanceId: new Uint8Array(20).fill(7) }));
    expect((await call(strict.main.port, 'GetAppKey', keyRequest, { client: other })).status).toBe(200);
    expect((await ask(strict.main.port, '/health', { method: 'GET' })).status).toBe(200);
    const metrics = await ask(strict.main.port, '/metrics', { method: 'GET' });
    expect(metrics.body.toString()).toContain('dstack_kms_rate_limited_total 3');
  });

  test('audit-disk-full: no record, no keys', async () => {
    const dir = join(lab.directory, 'audit-file');
    const audited = await lab.start({ core: { audit: { dir } } });
    await audited.kms.audit.close();
    const { status, json } = await call(audited.main.port, 'GetAppKey', keyRequest, {
      client: lab.client(lab.guest()),
    });
    expect(status).toBe(400);
    expect(JSON.stringify(json)).not.toContain('disk_crypt_key');
  });

  test('bootstrap-file-missing: certificates come back, root keys stay, half a root is refused', async () => {
    const first = await lab.start();
    const directory = first.kms.config.core.cert_dir;
    const { k256Pubkey, rootCa } = first.kms.keys;
    await first.close();
    for (const name of ['rpc.crt', 'rpc.key', 'tmp-ca.key', 'tmp-ca.crt', 'root-ca.crt']) {
      rmSync(join(directory, name));
      const again = await lab.start({ directory });
      expect(again.kms.keys.k256Pubkey).toEqual(k256Pubkey);
      expect(again.kms.keys.rootCa.key.spki).toEqual(rootCa.key.spki);
      await again.close();
    }
    rmSync(join(directory, 'root-k256.key'));
    await expect(lab.start({ directory })).rejects.toThrow('one root key without the other');
  });

  test('port-in-use: says which port', async () => {
    await expect(lab.start({ rpc: { port: kms.main.port } })).rejects.toThrow(
      `Cannot listen on 127.0.0.1 port ${kms.main.port}: the port is in use`,
    );
  });
});

test('audit records chain, and heads and proofs are served', async () => {
  const audited = await lab.start();
  const client = lab.client(lab.guest());
  await call(audited.main.port, 'GetAppKey', keyRequest, { client });
  lab.webhook.policy = { app: deny('no') };
  await call(audited.main.port, 'GetAppKey', keyRequest, { client });
  const head = await call(audited.main.port, 'GetAuditHead');
  expect(head.json).toMatchObject({ tree_size: 2 });
  const proof = await call(audited.main.port, 'GetAuditInclusion', { seq: 0, tree_size: 2 });
  expect(proof.json['hashes']).toHaveLength(1);
  expect((await call(audited.main.port, 'GetAuditInclusion', { seq: 9 })).status).toBe(400);
  const lines = await audited.kms.audit.records(0, 10);
  const records = lines.map((line) => JSON.parse(line) as { event: string; decision: string });
  expect(records.map(({ decision, event }) => [event, decision])).toEqual([
    ['app-key', 'allowed'],
    ['app-key', 'denied'],
  ]);
});

test('the RPC certificate is renewed while running, with the same key', async () => {
  const renewed = await lab.start();
  const path = join(renewed.kms.config.core.cert_dir, 'rpc.crt');
  const before = readFileSync(path, 'utf8');
  await renewed.renewCertificate();
  const after = readFileSync(path, 'utf8');
  expect(after).not.toBe(before);
  const spkis = [before, after].map((pem) =>
    toHex(parseRaTlsCertificate(decodePem(pem, 'CERTIFICATE')).spki),
  );
  expect(spkis[0]).toBe(spkis[1]);
  expect((await call(renewed.main.port, 'GetMeta')).status).toBe(200);
});

test('temp CA can be switched off', async () => {
  const modern = await lab.start({ core: { temp_ca: { enabled: false } } });
  expect((await call(modern.main.port, 'GetTempCaCert')).json['code']).toBe('UNIMPLEMENTED');
});

test('ready, metrics, openapi', async () => {
  const ready = await ask(kms.main.port, '/ready', { method: 'GET' });
  expect([ready.status, JSON.parse(ready.body.toString())]).toMatchObject([
    200,
    { ready: true, simulated: true },
  ]);
  lab.webhook.policy = { info: { status: 500, raw: 'x' } };
  await new Promise((resolve) => setTimeout(resolve, 1_100));
  expect((await ask(kms.main.port, '/ready', { method: 'GET' })).status).toBe(503);
  const metrics = (await ask(kms.main.port, '/metrics', { method: 'GET' })).body.toString();
  for (const name of [
    'attestation_requests_total',
    'rpc_duration_seconds_bucket',
    'simulated 1',
    'build_info',
  ]) {
    expect(metrics).toContain(`dstack_kms_${name}`);
  }
  const openapi = await ask(kms.main.port, '/prpc/openapi.json', { method: 'GET' });
  expect(Object.keys((JSON.parse(openapi.body.toString()) as { paths: object }).paths)).toContain(
    '/prpc/GetAppKey',
  );
});

test('KMS.GetKey gives what the guest agent derives', async () => {
  const { json } = await call(
    kms.main.port,
    'KMS.GetKey',
    { name: 'my-key' },
    { client: lab.client(lab.guest()) },
  );
  expect(json['key']).toMatch(/^[0-9a-f]{64}$/);
  expect(json['signature_chain']).toHaveLength(2);
});
