/** Certificates and derived values of the original, beside ours from the same keys. */
import { readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { parseCertificate } from '@dstack-cloud/attestation';
import { decodePem, fromHex, toHex } from '@dstack-cloud/encoding';
import {
  bootstrapReportData,
  deriveAppCaKey,
  deriveAppKeys,
  deriveEnvPublicKey,
  k256PublicKey,
  type RootKeys,
  signEnvPublicKey,
} from '@dstack-cloud/keys';
import { describeWithFixtures, fixtureJson } from '@dstack-cloud/test/fixtures';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { certificateShape } from '../test/certificate-shape.ts';
import { type Lab, openLab } from '../test/lab.ts';
import { recordedDirectory, writeRecordedDirectory } from '../test/recorded-kms.ts';

type Recorded = { pem: string; serial: string; extensions: { oid: string; critical: boolean }[] };
type Keys = Record<
  'app_id' | 'instance_id' | 'disk_crypt_key' | 'env_crypt_key' | 'k256_key' | 'k256_signature',
  string
>;

describeWithFixtures('certificates of kms-original/full', 'kms-original/full/certificates.json', () => {
  const { certificates } = fixtureJson<{ certificates: Record<string, Recorded> }>(
    'kms-original/full/certificates.json',
  );
  let lab: Lab;
  beforeAll(async () => {
    lab = await openLab();
  });
  afterAll(() => lab.close());

  /** Starts ours on the keys of an original without its certificates, which so are made anew. */
  async function remade(name: string, core: Record<string, unknown> = {}): Promise<(file: string) => string> {
    const directory = join(lab.directory, `certificates-${name}-${Object.keys(core).length}`);
    writeRecordedDirectory(directory, recordedDirectory(name));
    for (const file of ['root-ca.crt', 'tmp-ca.crt', 'rpc.crt']) rmSync(join(directory, file));
    await (await lab.start({ directory, core })).close();
    return (file) => readFileSync(join(directory, file), 'utf8');
  }
  /** Without the end, which is counted from the issue. */
  const shapeOf = (pem: string): Record<string, unknown> => ({ ...certificateShape(pem), notAfter: 0 });
  const serialOf = (pem: string): string => toHex(parseCertificate(decodePem(pem, 'CERTIFICATE')).serial);

  test.each([
    ['kmsA', 'kmsA-root-ca', 'root-ca.crt'],
    ['kmsA', 'kmsA-tmp-ca', 'tmp-ca.crt'],
    ['kmsB', 'kmsB-root-ca', 'root-ca.crt'],
  ])('%s: a CA made from the same key is like %s, its serial included', async (directory, name, file) => {
    const ours = (await remade(directory))(file);
    expect(shapeOf(ours)).toEqual(shapeOf(certificates[name]!.pem));
    expect(serialOf(ours).replace(/^00/, '')).toBe(certificates[name]!.serial);
  });

  test('kmsN-rpc: without evidence, the same extensions with the same content', async () => {
    const ours = (await remade('kmsA', { attest_rpc_cert: false }))('rpc.crt');
    expect(shapeOf(ours)).toEqual(shapeOf(certificates['kmsN-rpc']!.pem));
  });

  test.each([
    ['kmsA', 'kmsA-rpc'],
    ['kmsB', 'kmsB-rpc'],
  ])(
    '%s: attested, the same names and extensions as %s but for the evidence itself',
    async (directory, name) => {
      const ours = (await remade(directory))('rpc.crt');
      const withoutEvidence = (pem: string): unknown[] =>
        (shapeOf(pem)['extensions'] as [string, boolean, string][]).map(([oid, critical, value]) =>
          oid.startsWith('1.3.6.1.4.1.62397.1.8') ? [oid, critical] : [oid, critical, value],
        );
      expect(withoutEvidence(ours)).toEqual(withoutEvidence(certificates[name]!.pem));
    },
  );

  describe('leafs', () => {
    const replayed = ['signcert', 'nitro'].flatMap((file) =>
      fixtureJson<{ items: { response?: { body?: { utf8?: string } } }[] }>(
        `kms-original/full/${file}.json`,
      ).items.flatMap(
        ({ response }) =>
          (JSON.parse(response?.body?.utf8 ?? '{}') as { certificate_chain?: string[] }).certificate_chain ??
          [],
      ),
    );
    const leafs = Object.keys(certificates).filter((name) => /^(leaf|app-ca)/.test(name));
    test.each(leafs)('%s is in an exchange that is replayed, where ours is compared with it', (name) => {
      expect(replayed.map((pem) => serialOf(pem))).toContain(serialOf(certificates[name]!.pem));
    });
  });
});

describeWithFixtures('values of kms-original/full', 'kms-original/full/expected.json', () => {
  const expected = fixtureJson<{
    golden_roots: { root_ca_scalar: string; root_k256: string };
    get_app_key: Record<string, Keys>;
    get_app_env_encrypt_pub_key: Record<'app_id' | 'public_key' | 'signature' | 'signature_v1', string> & {
      timestamp: number;
    };
    app_ca_spki_for_app_11: string;
    bootstrap_binding: Record<'ca_pubkey' | 'k256_pubkey' | 'report_data', string>;
    dstack_util_get_keys_app1: Keys;
  }>('kms-original/full/expected.json');
  const roots: RootKeys = {
    caScalar: fromHex(expected.golden_roots.root_ca_scalar),
    k256: fromHex(expected.golden_roots.root_k256),
  };

  test.each(Object.entries(expected.get_app_key))('keys of %s', (_, recorded) => {
    const keys = deriveAppKeys(roots, fromHex(recorded.app_id), fromHex(recorded.instance_id));
    expect({
      disk_crypt_key: toHex(keys.diskCryptKey),
      env_crypt_key: toHex(keys.envCryptKey),
      k256_key: toHex(keys.k256Key),
      k256_signature: toHex(keys.k256Signature),
    }).toEqual({
      disk_crypt_key: recorded.disk_crypt_key,
      env_crypt_key: recorded.env_crypt_key,
      k256_key: recorded.k256_key,
      k256_signature: recorded.k256_signature,
    });
  });

  test("the original's own client got what GetAppKey gives", () => {
    const { disk_crypt_key, env_crypt_key, k256_key, k256_signature } = expected.dstack_util_get_keys_app1;
    expect(expected.get_app_key['app1']).toMatchObject({
      disk_crypt_key,
      env_crypt_key,
      k256_key,
      k256_signature,
    });
  });

  test('environment key with both signatures, App CA, bootstrap binding', () => {
    const { app_id, public_key, signature, timestamp, signature_v1 } = expected.get_app_env_encrypt_pub_key;
    const appId = fromHex(app_id);
    const publicKey = deriveEnvPublicKey(roots, appId);
    expect(toHex(publicKey)).toBe(public_key);
    expect(toHex(signEnvPublicKey(roots.k256, appId, publicKey))).toBe(signature);
    expect(toHex(signEnvPublicKey(roots.k256, appId, publicKey, BigInt(timestamp)))).toBe(signature_v1);
    expect(toHex(deriveAppCaKey(roots, fromHex('11'.repeat(20))).spki)).toBe(expected.app_ca_spki_for_app_11);
    const { ca_pubkey, k256_pubkey, report_data } = expected.bootstrap_binding;
    expect(toHex(bootstrapReportData(fromHex(ca_pubkey), fromHex(k256_pubkey)))).toBe(report_data);
    expect(k256PublicKey(roots.k256)).toHaveLength(33);
  });
});
