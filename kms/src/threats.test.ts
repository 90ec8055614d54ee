/** Attacks on a running KMS, each by its name; the KMS is the real one, the hardware simulated. */

import { once } from 'node:events';
import { rmSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { encodeAttestation, ratlsReportData } from '@dstack-cloud/attestation';
import { decodePem, toHex } from '@dstack-cloud/encoding';
import { deriveAppKeys, generateP256Key, p256KeyPem } from '@dstack-cloud/keys';
import { encodeCsrV2, OID, parseRaTlsCertificate, signCsr } from '@dstack-cloud/ra-tls';
import { createPlatform, DEBUG_ATTRIBUTES } from '@dstack-cloud/tee-simulator';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import type { RunningKms } from './start-kms.ts';
import { ask, type ClientIdentity, call } from './test/ask.ts';
import { forgeCertificate } from './test/forge-certificate.ts';
import { LAB_NOW, type Lab, openLab } from './test/lab.ts';
import { bootEvents } from './test/simulated-guest.ts';

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

/** A certificate with this attestation, changed as the attacker likes. */
function forged(change: (encoded: Uint8Array) => Uint8Array): ClientIdentity {
  const key = generateP256Key();
  const content = change(encodeAttestation(lab.guest().attest(ratlsReportData(key.spki))));
  return { cert: forgeCertificate(key, [{ oid: OID.attestation, content }]), key: p256KeyPem(key) };
}

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

test('an honest workload gets its own keys, by a self-signed certificate with evidence', async () => {
  const guest = lab.guest();
  const { status, json } = await getAppKey(lab.client(guest));
  expect(status).toBe(200);
  const expected = deriveAppKeys(
    kms.kms.keys.roots,
    new Uint8Array(20).fill(0x11),
    new Uint8Array(20).fill(0x33),
  );
  expect(json).toMatchObject({
    disk_crypt_key: toHex(expected.diskCryptKey),
    env_crypt_key: toHex(expected.envCryptKey),
    k256_key: toHex(expected.k256Key),
    k256_signature: toHex(expected.k256Signature),
    os_image_hash: guest.osImageHash,
    gateway_app_id: 'any',
  });
});

describe('evidence', () => {
  test('temp-ca-without-evidence: a certificate of the public temp CA alone gets nothing', async () => {
    const key = generateP256Key();
    const cert = forgeCertificate(key, [], { issuerKey: kms.kms.keys.tempCa.key });
    const { json } = await getAppKey({ cert, key: p256KeyPem(key) });
    expect(json).toMatchObject({ error: 'App not allowed: No attestation provided', code: 'UNAUTHORIZED' });
  });

  test('foreign-certificate: neither of the temp CA nor attested, the connection ends', async () => {
    const key = generateP256Key();
    const client = { cert: forgeCertificate(key, []), key: p256KeyPem(key) };
    await expect(call(kms.main.port, 'GetMeta', {}, { client })).rejects.toThrow();
  });

  test('replayed-attestation: evidence of another key is refused on every method', async () => {
    const victim = encodeAttestation(lab.guest().attest(ratlsReportData(generateP256Key().spki)));
    const client = forged(() => victim);
    expect((await getAppKey(client)).json['error']).toBe('invalid quote: report data mismatch');
    expect((await call(kms.main.port, 'GetMeta', {}, { client })).json['error']).toMatch(
      /report data mismatch/,
    );
  });

  test('tampered-quote-costs-no-fetch: nothing is fetched for a quote that its own key did not sign', async () => {
    const before = lab.collateralRequests();
    for (const offset of [200, 500, 700]) {
      const client = forged((encoded) => encoded.map((byte, index) => (index === offset ? byte ^ 1 : byte)));
      expect((await getAppKey(client)).status).toBe(400);
    }
    expect(lab.collateralRequests()).toBe(before);
  });

  test('debug-td: a TD in debug mode gets nothing, also when images are not verified', async () => {
    const lax = await lab.start({ core: { image: { verify: false } } });
    const client = lab.client(lab.guest({ td: { tdAttributes: DEBUG_ATTRIBUTES } }));
    for (const { main } of [kms, lax]) {
      const { json } = await call(main.port, 'GetAppKey', keyRequest, { client });
      expect(json['error']).toMatch(/^invalid quote: .*debug/i);
    }
  });

  test('unknown-root: evidence under another test root gets nothing', async () => {
    const platform = createPlatform(new Uint8Array(32).fill(66));
    expect((await getAppKey(lab.client(lab.guest({ platform })))).json['error']).toMatch(/^invalid quote: /);
  });

  test('duplicate-extension: two attestations in one certificate are refused', async () => {
    const key = generateP256Key();
    const content = encodeAttestation(lab.guest().attest(ratlsReportData(key.spki)));
    const extension = { oid: OID.attestation, content };
    const cert = forgeCertificate(key, [extension, extension], { issuerKey: kms.kms.keys.tempCa.key });
    const { json } = await getAppKey({ cert, key: p256KeyPem(key) });
    expect(json['error']).toMatch(/^Failed to/);
  });

  test('rtmr3-extended-twice: a log that is not what was measured is refused', async () => {
    const key = generateP256Key();
    const honest = lab.guest().attest(ratlsReportData(key.spki));
    const shown = bootEvents({ platform: lab.platform, composeHash: new Uint8Array(32).fill(0x77) });
    for (const runtimeEvents of [
      shown,
      [...honest.runtimeEvents, ...honest.runtimeEvents],
      honest.runtimeEvents.slice(1),
    ]) {
      const content = encodeAttestation({ ...honest, runtimeEvents });
      const cert = forgeCertificate(key, [{ oid: OID.attestation, content }]);
      const { json } = await getAppKey({ cert, key: p256KeyPem(key) });
      expect(json['error']).toMatch(/^invalid quote: RTMR3/);
    }
  });

  test('wrong-length-measurement: a compose hash of 31 bytes is refused before the policy is asked', async () => {
    const guest = lab.guest({ composeHash: new Uint8Array(31).fill(1) });
    lab.webhook.asked.length = 0;
    expect((await getAppKey(lab.client(guest))).status).toBe(400);
    expect(lab.webhook.asked.filter(({ path }) => path === '/bootAuth/app')).toEqual([]);
  });
});

describe('identity', () => {
  test('no-instance-id: instances of such an app share the disk key', async () => {
    const { json } = await getAppKey(lab.client(lab.guest({ instanceId: new Uint8Array() })));
    const shared = deriveAppKeys(kms.kms.keys.roots, new Uint8Array(20).fill(0x11), new Uint8Array());
    expect(json['disk_crypt_key']).toBe(toHex(shared.diskCryptKey));
  });

  test('app-certificate-of-another: what a certificate claims in .3 counts for nothing', async () => {
    const key = generateP256Key();
    const content = encodeAttestation(lab.guest().attest(ratlsReportData(key.spki)));
    const cert = forgeCertificate(key, [
      { oid: OID.appId, content: new Uint8Array(20).fill(0x99) },
      { oid: OID.attestation, content },
    ]);
    const lying = await getAppKey({ cert, key: p256KeyPem(key) });
    const honest = await getAppKey(lab.client(lab.guest()));
    expect(lying.json['k256_key']).toBe(honest.json['k256_key']);
  });

  test('empty-vm-config: an empty or foreign configuration gets nothing and asks nobody', async () => {
    const client = lab.client(lab.guest());
    lab.webhook.asked.length = 0;
    for (const config of [
      '{}',
      '{"os_image_hash":""}',
      `{"os_image_hash":"${'00'.repeat(32)}"}`,
      '[]',
      'x',
      '1',
    ]) {
      expect((await getAppKey(client, config)).status).toBe(400);
    }
    expect(lab.webhook.asked.filter(({ path }) => path === '/bootAuth/app')).toEqual([]);
    const other = JSON.stringify({
      ...(JSON.parse(lab.guest().vmConfig) as object),
      os_image_hash: 'ee'.repeat(32),
    });
    expect((await getAppKey(client, other)).json['error']).toMatch(
      /^App not allowed: Failed to verify os image hash/,
    );
  });

  test('app-asks-for-root-keys: an allowed app that is no KMS gets none', async () => {
    const client = lab.client(lab.guest());
    lab.webhook.policy = { kms: deny('Aggregated MR not allowed') };
    const refused = await call(kms.main.port, 'GetKmsKey', {}, { client });
    expect(refused.json['error']).toMatch(/not allowed/);
    expect(JSON.stringify(refused.json)).not.toMatch(/PRIVATE/);
    expect((await call(kms.main.port, 'GetKmsKey')).json['error']).toBe('No attestation provided');
  });

  test('dev-policy-root-keys: the policy that allows all does not allow root keys', async () => {
    const dev = await lab.start({
      core: { auth_api: { type: 'dev', dev: { dangerously_allow_everything: true } } },
    });
    const client = lab.client(lab.guest());
    expect((await call(dev.main.port, 'GetAppKey', keyRequest, { client })).status).toBe(200);
    const { status, json } = await call(dev.main.port, 'GetKmsKey', {}, { client });
    expect([status, json['code']]).toEqual([400, 'MEASUREMENT_NOT_FOUND']);
  });
});

describe('policy', () => {
  test('revoked-between-requests: the next request on the same connection is refused', async () => {
    const client = lab.client(lab.guest());
    expect((await getAppKey(client)).status).toBe(200);
    lab.webhook.policy = { app: deny('Compose hash not allowed') };
    expect((await getAppKey(client)).json).toMatchObject({
      error: 'App not allowed: Boot denied: Compose hash not allowed',
      code: 'MEASUREMENT_NOT_FOUND',
    });
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

  test('auth-answer-multibyte: a long answer with multi-byte characters ends nothing', async () => {
    for (const raw of [
      `{"isAllowed":false,"gatewayAppId":"","reason":"${'ä'.repeat(2000)}"}`,
      'é'.repeat(600),
    ]) {
      for (const offset of ['', 'x']) {
        lab.webhook.policy = { app: { raw: offset + raw } };
        expect((await getAppKey(lab.client(lab.guest()))).status).toBe(400);
      }
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
    const { status, json } = await call(kms.main.port, 'SignCert', signRequest(config));
    expect([status, json['code']]).toEqual([400, 'INVALID_ARGUMENT']);
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
  const lines = await audited.kms.audit.log!.records(0, 10);
  const records = lines.map((line) => JSON.parse(line) as { event: string; decision: string });
  expect(records.map(({ decision, event }) => [event, decision])).toEqual([
    ['app-key', 'allowed'],
    ['app-key', 'denied'],
  ]);
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
