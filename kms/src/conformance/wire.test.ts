/** The checklist of checklist.test.ts, items 1 to 6: what goes over the wire. */

import { once } from 'node:events';
import { connect } from 'node:tls';
import { encodeAttestation, ratlsReportData } from '@dstack-cloud/attestation';
import { fromHex, toHex } from '@dstack-cloud/encoding';
import { deriveAppKeys, generateP256Key, p256KeyPem } from '@dstack-cloud/keys';
import { CONFIRM_WORD, encodeAppInfo, encodeCsrV2, OID, verifyPeerAttestation } from '@dstack-cloud/ra-tls';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import type { RunningKms } from '../start-kms.ts';
import { ask, type ClientIdentity, call } from '../test/ask.ts';
import { gcpVector, nitroVector, simulatorVector } from '../test/boot-vectors.ts';
import { forgeCertificate } from '../test/forge-certificate.ts';
import { newGuest, v06Guest } from '../test/guests.ts';
import { LAB_NOW, type Lab, openLab } from '../test/lab.ts';

const APP = new Uint8Array(20).fill(0x11);
const INSTANCE = new Uint8Array(20).fill(0x33);
const _HEX_APP = '11'.repeat(20);

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

const post = (path: string, body: Uint8Array | string = '', headers: Record<string, string> = {}) =>
  ask(kms.main.port, path, { body, headers });
const getAppKey = (client?: ClientIdentity, { main } = kms) =>
  call(main.port, 'GetAppKey', { api_version: 1, vm_config: '' }, { client });

test('checklist 1: GetMeta by POST with an object, nothing or garbage, by GET, and binary: the same content', async () => {
  const answers = await Promise.all([
    post('/prpc/KMS.GetMeta?json', '{}'),
    post('/prpc/KMS.GetMeta?json'),
    post('/prpc/GetMeta?json', 'garbage'),
    ask(kms.main.port, '/prpc/GetMeta', { method: 'GET' }),
    post('/prpc/GetMeta', '{}', { 'content-type': 'application/json' }),
  ]);
  const [first] = answers;
  for (const { status, body } of answers)
    expect([status, body.toString()]).toEqual([200, first!.body.toString()]);
  const binary = await post('/prpc/GetMeta', 'garbage');
  expect([binary.status, binary.headers['content-type']]).toEqual([200, 'application/octet-stream']);
  const meta = JSON.parse(first!.body.toString()) as Record<string, string>;
  // Field 1 is the certificate, field 3 the key.
  expect(binary.body.toString('latin1')).toContain(meta['ca_cert']);
  expect(binary.body.toString('hex')).toContain(`1a21${meta['k256_pubkey']}`);
});

test('checklist 2: bytes with 0x and in upper case come in, bare lower case goes out; null is there, Empty is null', async () => {
  const appId = 'ab'.repeat(20);
  const keys = await Promise.all(
    [appId, `0x${appId}`, `0X${appId}`, appId.toUpperCase(), `0x0x${appId}`].map((app_id) =>
      call(kms.main.port, 'GetAppEnvEncryptPubKey', { app_id }),
    ),
  );
  for (const { json } of keys) expect(json['public_key']).toMatch(/^[0-9a-f]{64}$/);
  expect(new Set(keys.map(({ json }) => json['public_key'])).size).toBe(1);
  for (const app_id of ['abc', 'zz'.repeat(20), null, 5]) {
    expect((await call(kms.main.port, 'GetAppEnvEncryptPubKey', { app_id })).status).toBe(400);
  }
  const { json } = await call(kms.main.port, 'GetMeta');
  expect(json).toHaveProperty('bootstrap_info', null);
  const cleared = await lab.start({ core: { admin: { enabled: true, port: 0, auth_token: 't' } } });
  const options = { plain: true, headers: { 'x-admin-token': 't' } };
  const empty = await ask(cleared.admin!.port, '/prpc/ClearImageCache?json', options);
  expect([empty.status, empty.body.toString()]).toEqual([200, 'null']);
  expect((await ask(cleared.admin!.port, '/prpc/ClearImageCache', options)).body).toHaveLength(0);
});

test('checklist 3: unknown method, body too large, and the key of errors', async () => {
  const unknown = await post('/prpc/KMS.KMS.Nope?json', '{}');
  expect([unknown.status, JSON.parse(unknown.body.toString())]).toMatchObject([
    400,
    { error: 'Service not found: Nope' },
  ]);
  const binary = await post('/prpc/Nope');
  expect(binary.body.subarray(2).toString()).toBe('Service not found: Nope');
  const large = await post('/prpc/GetAppEnvEncryptPubKey?json', new Uint8Array(10 * 1024 * 1024 + 1));
  expect([large.status, JSON.parse(large.body.toString())]).toMatchObject([
    400,
    { error: 'failed to read data: payload too large' },
  ]);
});

test('a request without Host is answered, as clients of the original send it', async () => {
  const socket = connect({ host: '127.0.0.1', port: kms.main.port, rejectUnauthorized: false });
  let text = '';
  socket.on('data', (chunk: Buffer) => {
    text += chunk.toString();
  });
  await once(socket, 'secureConnect');
  socket.write('POST /prpc/KMS.GetMeta?json HTTP/1.1\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}');
  await once(socket, 'end');
  expect(text).toMatch(/^HTTP\/1\.1 200 /);
  expect(text).toContain('"k256_pubkey"');
});

test('checklist 4: the vectors of 3.5, 3.6, 4.7 and 5.1, where each is tested byte for byte', async () => {
  // 3.5, whose fields are filled with one byte each.
  const info = encodeAppInfo({
    appId: APP,
    composeHash: new Uint8Array(32).fill(0x33),
    instanceId: new Uint8Array(20).fill(0x22),
    deviceId: new Uint8Array(32).fill(0x44),
    mrSystem: new Uint8Array(32).fill(0x55),
    mrAggregated: new Uint8Array(32).fill(0x66),
    osImageHash: new Uint8Array(32).fill(0x77),
    keyProviderInfo: new TextEncoder().encode('{"name":"kms","id":"00"}'),
  });
  expect(toHex(info)).toMatch(
    /^98c414(11){20}c420(33){32}c414(22){20}c420(44){32}c420(55){32}c420(66){32}c420(77){32}c4187b/,
  );
  // 3.6, the first one.
  const csr = encodeCsrV2({
    confirm: CONFIRM_WORD,
    pubkey: Uint8Array.of(1, 2, 3),
    config: {
      subject: 'test.example.com',
      subjectAltNames: [],
      usageServerAuth: true,
      usageClientAuth: false,
      extQuote: false,
      extAppInfo: false,
    },
    attestation: {
      quote: { mode: 'dstack-tdx', quote: new Uint8Array(), eventLog: [] },
      runtimeEvents: [],
      reportData: new Uint8Array(64),
      config: '',
    },
  });
  expect([csr.length, toHex(csr).slice(0, 82)]).toEqual([
    117,
    '44706c65617365207369676e20636572743a0c0102030040746573742e6578616d706c652e636f6d00',
  ]);
  // 4.7.
  const roots = {
    caScalar: fromHex('f57527cea4ab7ffb49af99b158cdc0e3ec06398f528349ea236b7d2afe19cec1'),
    k256: fromHex('3026569ccdf3b25530fce804d004a7274006d0e9aca5308c5ba145c5f28f1a73'),
  };
  const keys = deriveAppKeys(roots, APP, new Uint8Array(20).fill(0x22));
  expect([toHex(keys.diskCryptKey), toHex(keys.envCryptKey), toHex(keys.k256Key)]).toEqual([
    'a59c814e2c6d9353af59ce4fba7215e5ec3b62a2495b4dca48ea6f9804061f51',
    'a7470db8cfdd0fe24134b461d60766afa7c078abe6dce9f2c8a5c44034ca400e',
    '12d54d8dd9fa1b471dda3997a19325dfd2852c58585a9e889a12be0a5d9dbe1b',
  ]);
  // 5.1; the vectors that are not here (more of 3.6 and 4.7) stand beside the code, in ra-tls and keys.
  expect(simulatorVector()).toEqual({
    mrSystem: '51ea38f8eee6dc72dbae9b74531ae6d6204295d265dabb4e6c34621a2a1a1197',
    mrAggregated: '85334a62c97d0f8bf82d0245d31b539d17a2d7c258e2a13efc928aaea0e107cb',
    bootSystem: 'ef6af583432288c877e412740aa7d8a844a18920ad98e9b1d95d42a07a3044c8',
    bootAggregated: '787f9fe525fcb61e81f31a30225a86674412088f2f1b683a421a7e9cbcd40551',
  });
  const nitro = '1894b0b29e94a9db16e88a2914f0923e52bb16c08bf3bb484df786a147e2eb79';
  expect(nitroVector()).toEqual({
    mrSystem: nitro,
    mrAggregated: nitro,
    bootSystem: nitro,
    bootAggregated: nitro,
  });
  expect(gcpVector()).toEqual({
    mrSystem: 'c37840e00f87d7da81a96e0ec2a076720a6ae40f3926e637c7abff294c1cf9d3',
    mrAggregated: '3a6d397b3b6303737dea044a2b3b9e708d941ba7b88871e34ba1164ba622ed47',
    bootSystem: '7afa37d93ea58434a666f945de3cea2c402e82da7d17465956b56fff315e6779',
    bootAggregated: 'ffa61d9cd6d3d5f3c36a195c8399267f7f84ba6ccda058ca060e1fa23fb030a1',
  });
});

test('checklist 5: a guest of v0.6 and guests of the newer generation get identical keys, those of the formulas', async () => {
  const guest = lab.guest();
  const verify = (certificate: Parameters<typeof verifyPeerAttestation>[0]) =>
    verifyPeerAttestation(certificate, {
      ...lab.trust,
      now: LAB_NOW,
      platform: { tdxBootEventReplay: false },
    });
  const { port } = kms.main;
  const expected = deriveAppKeys(kms.kms.keys.roots, APP, INSTANCE);
  const answers = [
    await v06Guest(port, guest, verify),
    await newGuest(port, guest, verify, { encoding: 'scale', issuer: 'temp' }),
    await newGuest(port, guest, verify, { encoding: 'messagepack', issuer: 'temp' }),
    await newGuest(port, guest, verify, { encoding: 'scale', issuer: 'self' }),
  ];
  for (const answer of answers) {
    expect(answer).toEqual(answers[0]);
    expect(answer).toMatchObject({
      disk_crypt_key: toHex(expected.diskCryptKey),
      env_crypt_key: toHex(expected.envCryptKey),
      k256_key: toHex(expected.k256Key),
      k256_signature: toHex(expected.k256Signature),
      tproxy_app_id: 'any',
      gateway_app_id: 'any',
      os_image_hash: guest.osImageHash,
    });
  }
});

test('checklist 6: client certificates: none, temp CA, self-signed with and without evidence, evidence for another key', async () => {
  const key = generateP256Key();
  const attestation = (bound: Uint8Array) => encodeAttestation(lab.guest().attest(ratlsReportData(bound)));
  const certificate = (content?: Uint8Array, temp = true): ClientIdentity => ({
    cert: forgeCertificate(
      key,
      content === undefined ? [] : [{ oid: OID.attestation, content }],
      temp ? { issuerKey: kms.kms.keys.tempCa.key } : {},
    ),
    key: p256KeyPem(key),
  });
  const good = attestation(key.spki);
  expect((await getAppKey()).json['error']).toBe('App not allowed: No attestation provided');
  expect((await getAppKey(certificate(good))).status).toBe(200);
  expect((await getAppKey(certificate(undefined))).json['error']).toBe(
    'App not allowed: No attestation provided',
  );
  expect((await getAppKey(certificate(good, false))).status).toBe(200);
  await expect(getAppKey(certificate(undefined, false))).rejects.toThrow();
  const other = certificate(attestation(generateP256Key().spki));
  expect((await getAppKey(other)).json['error']).toBe('invalid quote: report data mismatch');
});
