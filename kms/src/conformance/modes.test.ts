/** Evidence of every platform, under test roots, from the TLS handshake to the released keys; and what it must not do. */
import { ratlsReportData } from '@dstack-cloud/attestation';
import { decodePem, fromHex, toHex } from '@dstack-cloud/encoding';
import { deriveAppKeys, generateP256Key, p256KeyPem } from '@dstack-cloud/keys';
import { CONFIRM_WORD, encodeCsrV2, parseRaTlsCertificate, signCsr } from '@dstack-cloud/ra-tls';
import { describeWithFixtures } from '@dstack-cloud/test/fixtures';
import type { Forged } from '@dstack-cloud/verifier/test-support/forged';
import { SNP } from '@dstack-cloud/verifier/test-support/snp-forge';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import type { RunningKms } from '../start-kms.ts';
import { type ClientIdentity, call } from '../test/ask.ts';
import { type Lab, openLab } from '../test/lab.ts';
import {
  gcpEvidence,
  MODES_NOW,
  modeClient,
  modesTrust,
  nitroEvidence,
  nitroTpmEvidence,
  snpEvidence,
  tdxEvidence,
} from '../test/mode-evidence.ts';

type Maker = (reportData: Uint8Array) => Forged;

const APP = fromHex('071a649431c113d82c5d02ab18ebb445aced9b74');
const INSTANCE = fromHex('6a465353091b97593725877e847445abca8c6f02');
/** Identities in the mock evidence; an enclave has no instance id. */
const MODES: readonly { mode: string; good: Maker; instance: Uint8Array; gate?: string }[] = [
  { mode: 'dstack-tdx', good: tdxEvidence(), instance: INSTANCE },
  { mode: 'dstack-gcp-tdx', good: gcpEvidence(), instance: INSTANCE },
  { mode: 'dstack-amd-sev-snp', good: snpEvidence(), instance: INSTANCE, gate: 'sev_snp_key_release' },
  {
    mode: 'dstack-nitro-enclave',
    good: nitroEvidence(),
    instance: new Uint8Array(),
    gate: 'nitro_enclave_key_release',
  },
  {
    mode: 'dstack-aws-nitro-tpm',
    good: nitroTpmEvidence(),
    instance: INSTANCE,
    gate: 'aws_nitro_tpm_key_release',
  },
];
const attestation = {
  insecure_allow_external_trust_anchors: true,
  insecure_skip_gcp_firmware_endorsement: true,
};
const GATES = { sev_snp_key_release: true, aws_nitro_tpm_key_release: true };

describeWithFixtures('all platforms', 'mock-evidence/expected.json', () => {
  let lab: Lab;
  let kms: RunningKms;
  const start = (core: Record<string, unknown> = {}, trust = modesTrust(lab.platform)): Promise<RunningKms> =>
    lab.start({ core: { attestation, ...GATES, ...core }, options: { now: () => MODES_NOW, trust } });
  beforeAll(async () => {
    lab = await openLab();
    kms = await start();
  });
  afterEach(() => {
    lab.webhook.policy = {};
  });
  afterAll(() => lab.close());

  const getAppKey = (client: ClientIdentity, vmConfig = '', { main } = kms) =>
    call(main.port, 'GetAppKey', { api_version: 1, vm_config: vmConfig }, { client });
  const keysFor = (instance: Uint8Array): Record<string, string> => {
    const keys = deriveAppKeys(kms.kms.keys.roots, APP, instance);
    return {
      disk_crypt_key: toHex(keys.diskCryptKey),
      env_crypt_key: toHex(keys.envCryptKey),
      k256_key: toHex(keys.k256Key),
      k256_signature: toHex(keys.k256Signature),
    };
  };
  /** A signing request with this evidence, bound to the key of the request or to another one. */
  function csrOf(
    good: Maker,
    boundTo = generateP256Key(),
  ): { input: Record<string, unknown>; spki: Uint8Array } {
    const key = generateP256Key();
    const csr = encodeCsrV2({
      confirm: CONFIRM_WORD,
      pubkey: boundTo.spki,
      config: {
        subject: 'app.example.com',
        subjectAltNames: ['app.example.com'],
        usageServerAuth: true,
        usageClientAuth: true,
        extQuote: true,
        extAppInfo: true,
      },
      attestation: good(ratlsReportData(boundTo.spki)).attestation,
    });
    const signature = toHex(signCsr(csr, boundTo));
    return { input: { api_version: 2, csr: toHex(csr), signature }, spki: (boundTo ?? key).spki };
  }

  describe.each(MODES)('$mode', ({ mode, good, instance, gate }) => {
    test('gets its keys, and the policy hears its platform', async () => {
      lab.webhook.asked.length = 0;
      const { status, json } = await getAppKey(modeClient(good));
      expect([status, json['error']]).toEqual([200, undefined]);
      expect(json).toMatchObject(keysFor(instance));
      const asked = lab.webhook.asked.find(({ path }) => path === '/bootAuth/app')!;
      expect(JSON.parse(asked.body)).toMatchObject({
        teeVariant: mode,
        appId: toHex(APP),
        instanceId: toHex(instance),
      });
      expect(json['os_image_hash']).toBe((JSON.parse(asked.body) as { osImageHash: string }).osImageHash);
    });

    test('SignCert v2: a certificate that says what was verified', async () => {
      const { input, spki } = csrOf(good);
      const { status, json } = await call(kms.main.port, 'SignCert', input);
      expect([status, json['error']]).toEqual([200, undefined]);
      const [leaf] = json['certificate_chain'] as string[];
      const parsed = parseRaTlsCertificate(decodePem(leaf!, 'CERTIFICATE'));
      expect(parsed).toMatchObject({ spki, usage: 'app:custom', appId: APP });
      expect(parsed.appInfo).toMatchObject({ appId: APP, instanceId: instance });
      expect(parsed.attestation?.quote.mode).toBe(mode);
    });

    test('GetKmsKey: the root keys when the policy says that it is a KMS, nothing when not', async () => {
      const client = modeClient(good);
      const { json } = await call(kms.main.port, 'GetKmsKey', {}, { client });
      const { rootCa, tempCa, roots } = kms.kms.keys;
      expect(json).toEqual({
        temp_ca_key: p256KeyPem(tempCa.key),
        keys: [{ ca_key: p256KeyPem(rootCa.key), k256_key: toHex(roots.k256) }],
      });
      const deny = { body: { isAllowed: false, gatewayAppId: '', reason: 'Aggregated MR not allowed' } };
      lab.webhook.policy = {
        kms: (body) => (body.includes(mode) && body.includes(toHex(APP)) ? deny : undefined),
      };
      const refused = await call(kms.main.port, 'GetKmsKey', {}, { client });
      expect([refused.status, refused.json['code'], refused.json['error']]).toEqual([
        400,
        'MEASUREMENT_NOT_FOUND',
        'Boot denied: Aggregated MR not allowed',
      ]);
    });

    test('bound to another key: refused everywhere', async () => {
      const client = modeClient(good, { boundTo: generateP256Key() });
      for (const method of ['GetAppKey', 'GetKmsKey', 'GetMeta']) {
        const { status, json } = await call(kms.main.port, method, {}, { client });
        expect([status, json['code'], json['error']]).toEqual([
          400,
          'UNAUTHORIZED',
          'invalid quote: report data mismatch',
        ]);
      }
      const other = generateP256Key();
      const stolen: Maker = () => good(ratlsReportData(other.spki));
      const { json } = await call(kms.main.port, 'SignCert', csrOf(stolen).input);
      expect([json['code'], json['error']]).toEqual([
        'UNAUTHORIZED',
        'Quote verification failed: report data mismatch',
      ]);
    });

    test('changed after it was signed: refused', async () => {
      const client = modeClient((reportData) => tampered(good(reportData)));
      const { status, json } = await getAppKey(client);
      expect([status, json['code']]).toEqual([400, 'UNAUTHORIZED']);
      expect(json['error']).toMatch(/^invalid quote: /);
    });

    test('under the vendor’s roots alone: refused', async () => {
      const strict = await start({}, modesTrust(lab.platform, []));
      const { status, json } = await getAppKey(modeClient(good), '', strict);
      expect([status, json['code']]).toEqual([400, 'UNAUTHORIZED']);
      expect(json['error']).toMatch(/^invalid quote: /);
    });

    test('under the roots of every other platform: refused', async () => {
      const own = Object.keys(good(new Uint8Array(64)).roots);
      const all = MODES.flatMap(({ good: other }) => Object.keys(other(new Uint8Array(64)).roots));
      const others = all.filter((name) => !own.includes(name)) as Parameters<typeof modesTrust>[1];
      const strict = await start({}, modesTrust(lab.platform, others));
      expect((await getAppKey(modeClient(good), '', strict)).json['code']).toBe('UNAUTHORIZED');
    });

    const gated = gate === undefined ? [] : [gate];
    test.each(gated)('with %s switched off: refused, and on record', async (name) => {
      const closed = await start({ [name]: false });
      lab.webhook.asked.length = 0;
      const client = modeClient(good);
      const app = await getAppKey(client, '', closed);
      const root = await call(closed.main.port, 'GetKmsKey', {}, { client });
      const sign = await call(closed.main.port, 'SignCert', csrOf(good).input);
      for (const { json } of [app, root, sign]) {
        expect(json['code']).toBe('UNAUTHORIZED');
        expect(json['error']).toMatch(/key release is not enabled$/);
      }
      expect(lab.webhook.asked.filter(({ path }) => path === '/bootAuth/app')).toEqual([]);
      const records = (await closed.kms.audit.records(0, 10)).map(
        (line) => JSON.parse(line) as Record<string, unknown>,
      );
      expect(records.map(({ event, decision, platform }) => [event, decision, platform])).toEqual(
        ['app-key', 'kms-key', 'sign-cert'].map((event) => [event, 'denied', mode]),
      );
    });
  });
});

/** The evidence with one signed bit changed. */
function tampered(forged: Forged): Forged {
  const { quote } = forged.attestation;
  const flip = (bytes: Uint8Array, at: number): Uint8Array =>
    bytes.map((byte, index) => (index === at ? byte ^ 1 : byte));
  const changed = (): typeof quote => {
    switch (quote.mode) {
      case 'dstack-tdx':
      case 'dstack-gcp-tdx':
        return { ...quote, quote: flip(quote.quote, 200) };
      case 'dstack-amd-sev-snp':
        return { ...quote, report: flip(quote.report, SNP.measurement) };
      case 'dstack-nitro-enclave':
        return { ...quote, nsmQuote: flip(quote.nsmQuote, 200) };
      case 'dstack-aws-nitro-tpm':
        return { ...quote, attestationDoc: flip(quote.attestationDoc, 200) };
    }
  };
  return { ...forged, attestation: { ...forged.attestation, quote: changed() } };
}
