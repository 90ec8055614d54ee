/** Certificates of the original: read by ours, and with the extensions that ours write. */
import { parseCertificate } from '@dstack-cloud/attestation';
import { decodePem, toHex } from '@dstack-cloud/encoding';
import { describeWithFixtures, fixtureJson } from '@dstack-cloud/test/fixtures';
import { expect, it } from 'vitest';
import { appCaKey, now, rootKey, testKms } from '../testing/samples.ts';
import { issuerOf } from './issue-certificate.ts';
import { parseRaTlsCertificate } from './parse-ra-tls-certificate.ts';
import { appCa, appLeaf, rootCa, rpcCertificate } from './profiles.ts';

const appId = new Uint8Array(20).fill(0x11);
const root = issuerOf(rootCa({ key: rootKey, now }), rootKey);
const authority = issuerOf(appCa({ issuer: root, key: appCaKey, appId, now }), appCaKey);

interface RecordedCertificates {
  certificates: Record<string, { pem: string }>;
}

describeWithFixtures('certificates of the original', 'kms-original/full/certificates.json', () => {
  const { certificates } = fixtureJson<RecordedCertificates>('kms-original/full/certificates.json');

  it.each(Object.keys(certificates))('%s is read', (name) => {
    const der = decodePem(certificates[name]!.pem, 'CERTIFICATE');
    if (name.includes('not-after-before-not-before')) return;
    const read = parseRaTlsCertificate(der);
    const usage = name.includes('rpc')
      ? 'kms:rpc'
      : name === 'app-ca'
        ? 'app:ca'
        : name.startsWith('leaf')
          ? 'app:custom'
          : undefined;
    expect(read.usage).toBe(usage);
  });

  it('our profiles have the same extensions, byte for byte', () => {
    // The original pads key usage with zero bits, which DER forbids for named bits (X.690 section 11.2.2).
    const padded: Record<string, string> = { '03020186': '0303078600', '03020780': '0303078000' };
    const value = (bytes: Uint8Array): string => padded[toHex(bytes)] ?? toHex(bytes);
    const values = (der: Uint8Array): string[] =>
      parseCertificate(der).extensions.map((e) => `${e.oid} ${e.critical} ${value(e.value)}`);
    const original = (name: string): string[] => values(decodePem(certificates[name]!.pem, 'CERTIFICATE'));
    expect(values(appCa({ issuer: root, key: appCaKey, appId, now }))).toEqual(original('app-ca'));
    const { spki } = testKms().rpcKey;
    expect(values(rpcCertificate({ issuer: root, domain: 'kms.lab.test', spki, now }))).toEqual(
      original('kmsN-rpc'),
    );
    const server = {
      subject: 'test.example.com',
      subjectAltNames: ['test.example.com'],
      usageServerAuth: true,
      usageClientAuth: false,
      extQuote: false,
      extAppInfo: false,
    };
    expect(values(appLeaf({ config: server, issuer: authority, spki, appId, now }))).toEqual(
      original('leaf-v2-server'),
    );
    const rootValues = original('kmsA-root-ca').filter((value) => !value.startsWith('2.5.29.14'));
    expect(values(rootCa({ key: rootKey, now })).filter((value) => !value.startsWith('2.5.29.14'))).toEqual(
      rootValues,
    );
  });
});
