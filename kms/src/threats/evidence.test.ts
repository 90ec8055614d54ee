import { encodeAttestation, ratlsReportData } from '@dstack-cloud/attestation';
import { toHex } from '@dstack-cloud/encoding';
import { deriveAppKeys, generateP256Key, p256KeyPem } from '@dstack-cloud/keys';
import { OID } from '@dstack-cloud/ra-tls';
import { createPlatform, DEBUG_ATTRIBUTES } from '@dstack-cloud/tee-simulator';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import type { RunningKms } from '../start-kms.ts';
import { ask, type ClientIdentity, call } from '../test/ask.ts';
import { forgeCertificate } from '../test/forge-certificate.ts';
import { keptConnection } from '../test/kept-connection.ts';
import { LAB_NOW, type Lab, openLab } from '../test/lab.ts';
import { bootEvents } from '../test/simulated-guest.ts';

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

/** A certificate with this attestation, changed as the attacker likes. */
function forged(change: (encoded: Uint8Array) => Uint8Array): ClientIdentity {
  const key = generateP256Key();
  const content = change(encodeAttestation(lab.guest().attest(ratlsReportData(key.spki))));
  return { cert: forgeCertificate(key, [{ oid: OID.attestation, content }]), key: p256KeyPem(key) };
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

  test('flood-of-forged-evidence: an address that shows too much of it is not let in until the bucket fills', async () => {
    const rate_limit = { enabled: true, refused_evidence_per_minute: 60, refused_evidence_burst: 3 };
    const strict = await lab.start({ core: { rate_limit } });
    const good = lab.client(lab.guest());
    const keys = () => call(strict.main.port, 'GetAppKey', { api_version: 1 }, { client: good });
    for (let i = 0; i < 5; i++) expect((await keys()).status).toBe(200);
    for (let i = 0; i < 3; i++) {
      const client = forged((encoded) => encoded.map((byte, index) => (index === 700 + i ? byte ^ 1 : byte)));
      expect((await call(strict.main.port, 'GetMeta', {}, { client })).status).toBe(400);
    }
    await expect(keys()).rejects.toThrow();
    await expect.poll(async () => (await keys()).status, { timeout: 5_000 }).toBe(200);
  });

  test('verdict-age: ten minutes from the judging, whatever connections and caches lie between', async () => {
    let now = LAB_NOW;
    const aging = await lab.start({ options: { now: () => now } });
    const client = lab.client(lab.guest());
    const judged = async () => {
      const { body } = await ask(aging.main.port, '/metrics', { method: 'GET' });
      const name = 'dstack_kms_attestation_verifications_total{platform="dstack-tdx",result="ok"}';
      const line = body
        .toString()
        .split('\n')
        .find((text) => text.startsWith(name));
      return Number(line?.slice(name.length));
    };
    const first = keptConnection(aging.main.port, client);
    expect((await first.post('GetAppKey', keyRequest)).status).toBe(200);
    now += 540;
    // A connection that begins with a verdict of nine minutes.
    const second = keptConnection(aging.main.port, client);
    expect((await second.post('GetAppKey', keyRequest)).status).toBe(200);
    now += 59;
    for (const { post } of [first, second]) expect((await post('GetAppKey', keyRequest)).status).toBe(200);
    expect(await judged()).toBe(1);
    now += 1;
    const late = await second.post('GetAppKey', keyRequest);
    expect([late.status, late.reused, await judged()]).toEqual([200, true, 2]);
    expect((await first.post('GetAppKey', keyRequest)).status).toBe(200);
    expect(await judged()).toBe(2);
    for (const { close } of [first, second]) close();
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
    const { status, json } = await getAppKey(lab.client(guest));
    expect([status, json['error']]).toEqual([400, expect.stringMatching(/compose-hash/)]);
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
    // Allowed as an app, and so is this KMS as a KMS: what is refused is this guest as a KMS.
    const deny = { body: { isAllowed: false, gatewayAppId: '', reason: 'Aggregated MR not allowed' } };
    lab.webhook.policy = { kms: (body) => (body.includes(`"${'11'.repeat(20)}"`) ? deny : undefined) };
    expect((await getAppKey(client)).status).toBe(200);
    lab.webhook.asked.length = 0;
    const refused = await call(kms.main.port, 'GetKmsKey', {}, { client });
    expect(refused.json).toMatchObject({
      error: 'Boot denied: Aggregated MR not allowed',
      code: 'MEASUREMENT_NOT_FOUND',
    });
    expect(lab.webhook.asked.map(({ path }) => path)).not.toContain('/bootAuth/app');
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
