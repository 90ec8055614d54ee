import { spawnSync } from 'node:child_process';
import { X509Certificate } from 'node:crypto';
import { parseCertificate, stripForCertificate } from '@dstack-cloud/attestation';
import { fromHex, toHex } from '@dstack-cloud/encoding';
import { generateP256Key } from '@dstack-cloud/keys';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { CsrConfig } from '../csr/csr.ts';
import { RaTlsError } from '../errors.ts';
import { OID } from '../oid.ts';
import { appCaKey, attestationFor, now, rootKey } from '../testing/samples.ts';
import type { AppInfo } from './app-info.ts';
import { certificatePem, issueCertificate, issuerOf } from './issue-certificate.ts';
import { parseRaTlsCertificate } from './parse-ra-tls-certificate.ts';
import { appCa, appLeaf, localRootCa, rootCa, rpcCertificate, tempCa, tempClient } from './profiles.ts';

const appId = new Uint8Array(20).fill(0x11);
const root = issuerOf(rootCa({ key: rootKey, now }), rootKey);
const authority = issuerOf(appCa({ issuer: root, key: appCaKey, appId, now }), appCaKey);
const config: CsrConfig = {
  subject: 'test.example.com',
  subjectAltNames: ['test.example.com', '127.0.0.1', '::1', '*.x.example'],
  usageServerAuth: true,
  usageClientAuth: true,
  extQuote: false,
  extAppInfo: false,
};
const oids = (der: Uint8Array): string[] =>
  parseCertificate(der).extensions.map((extension) => extension.oid);

describe('profiles', () => {
  it('serial and key identifier follow from the key of a CA (docs/protocol/ra-tls.md section 2.1)', () => {
    const certificate = parseCertificate(rootCa({ key: rootKey, now }));
    expect(toHex(certificate.serial)).toBe('6078317e8a0f260d06534a3d2a4d0fa135a75721');
    expect(certificate.extensions.find((e) => e.oid === '2.5.29.14')?.value).toEqual(
      fromHex('04145df9d433e05d122dc5d6b8afa7d0ca8083182348'),
    );
    const app = parseCertificate(appCa({ issuer: root, key: appCaKey, appId, now }));
    expect(toHex(app.serial)).toBe('41e6a6b89fdb9e8b1c16889f1d0a4c204e7ff10b');
    expect(app.extensions.find((e) => e.oid === '2.5.29.14')?.value).toEqual(
      fromHex('04148ab33b7638798003f33d29bc6b751da36d0e7a9f'),
    );
  });

  it('a server certificate of a KMS lasts 30 days, and no longer than its root', () => {
    const input = { domain: 'kms', spki: generateP256Key().spki, now };
    expect(parseCertificate(rpcCertificate({ ...input, issuer: root })).notAfter).toBe(now + 30 * 86_400);
    const short = { ...root, notAfter: now + 60 };
    expect(parseCertificate(rpcCertificate({ ...input, issuer: short })).notAfter).toBe(now + 60);
  });

  it('Node reads and verifies the chain root, app CA, leaf', () => {
    const rootCertificate = new X509Certificate(rootCa({ key: rootKey, now }));
    const ca = new X509Certificate(appCa({ issuer: root, key: appCaKey, appId, now }));
    const key = generateP256Key();
    const leaf = new X509Certificate(appLeaf({ config, issuer: authority, spki: key.spki, appId, now }));
    expect(rootCertificate.subject).toBe('O=Dstack\nCN=Dstack KMS CA');
    expect(rootCertificate.validFrom).toBe('Jan  1 00:00:00 1975 GMT');
    expect([rootCertificate.ca, ca.ca, leaf.ca]).toEqual([true, true, false]);
    expect(ca.checkIssued(rootCertificate) && ca.verify(rootCertificate.publicKey)).toBe(true);
    expect(leaf.checkIssued(ca) && leaf.verify(ca.publicKey)).toBe(true);
    expect(leaf.subjectAltName).toBe(
      'DNS:test.example.com, IP Address:127.0.0.1, IP Address:0:0:0:0:0:0:0:1, DNS:*.x.example',
    );
    expect(leaf.keyUsage).toEqual(['1.3.6.1.5.5.7.3.1', '1.3.6.1.5.5.7.3.2']);
    expect(leaf.checkPrivateKey(key.privateKey)).toBe(true);
  });

  it('OpenSSL verifies the chain, where it is present', (context) => {
    if (spawnSync('openssl', ['version']).error) context.skip('openssl is not installed');
    const leaf = appLeaf({ config, issuer: authority, spki: generateP256Key().spki, appId, now });
    const printed = spawnSync('openssl', ['x509', '-noout', '-text'], {
      input: certificatePem(leaf),
      timeout: 10_000,
    });
    const text = printed.stdout.toString();
    expect(printed.status).toBe(0);
    expect(text).toContain('Signature Algorithm: ecdsa-with-SHA256');
    expect(text).toContain('Issuer: O = Dstack, CN = Dstack App CA');
    expect(text).toMatch(/X509v3 Key Usage: critical\s+Digital Signature\n/);
    expect(text).toMatch(/TLS Web Server Authentication, TLS Web Client Authentication/);
    const asn1 = spawnSync('openssl', ['asn1parse'], { input: certificatePem(leaf), timeout: 10_000 });
    expect(asn1.status).toBe(0);
  });

  it('extensions come in the order of the original', () => {
    const key = generateP256Key();
    const attestation = attestationFor(key);
    const ca = ['2.5.29.15', '2.5.29.14', '2.5.29.19'];
    expect(oids(rootCa({ key, now }))).toEqual(ca);
    expect(oids(tempCa({ key, now }))).toEqual(ca);
    expect(oids(appCa({ issuer: root, key, appId, now }))).toEqual([...ca, OID.appId, OID.usage]);
    expect(oids(rpcCertificate({ issuer: root, domain: 'kms', spki: key.spki, attestation, now }))).toEqual([
      '2.5.29.17',
      '2.5.29.15',
      OID.usage,
      OID.attestation,
    ]);
    const all = { ...config, extQuote: true, extAppInfo: true };
    const leaf = appLeaf({
      config: all,
      issuer: authority,
      spki: key.spki,
      appId,
      appInfo,
      attestation,
      now,
    });
    expect(oids(leaf)).toEqual([
      '2.5.29.17',
      '2.5.29.15',
      '2.5.29.37',
      OID.appId,
      OID.appInfo,
      OID.usage,
      OID.attestation,
    ]);
    const plain = { ...config, subjectAltNames: [], usageServerAuth: false, usageClientAuth: false };
    expect(oids(appLeaf({ config: plain, issuer: authority, spki: key.spki, now }))).toEqual([
      '2.5.29.15',
      OID.usage,
    ]);
    expect(oids(tempClient({ issuer: root, spki: key.spki, attestation, now }))).toEqual([
      '2.5.29.15',
      OID.attestation,
    ]);
    expect(oids(localRootCa({ key, now, attestation }))).toEqual([...ca, OID.attestation]);
  });

  it('what an issued certificate says can be read back', () => {
    const key = generateP256Key();
    const attestation = attestationFor(key);
    const wanted = { ...config, extQuote: true, extAppInfo: true };
    const leaf = appLeaf({
      config: wanted,
      issuer: authority,
      spki: key.spki,
      appId,
      appInfo,
      attestation,
      now,
    });
    const read = parseRaTlsCertificate(leaf);
    expect(read.usage).toBe('app:custom');
    expect(read.appId).toEqual(appId);
    expect(read.appInfo).toEqual(appInfo);
    expect(read.attestation).toEqual(stripForCertificate(attestation));
    expect(read.spki).toEqual(key.spki);
  });

  it('app info and evidence go in only when asked for, and must be there then', () => {
    const key = generateP256Key();
    const input = {
      config,
      issuer: authority,
      spki: key.spki,
      appInfo,
      attestation: attestationFor(key),
      now,
    };
    expect(oids(appLeaf(input))).not.toContain(OID.attestation);
    expect(oids(appLeaf(input))).not.toContain(OID.appInfo);
    const demanding = { config: { ...config, extQuote: true }, issuer: authority, spki: key.spki, now };
    expect(() => appLeaf(demanding)).toThrow(TypeError);
  });

  it('leaves of one key have different serials, and none outlives its issuer', () => {
    const key = generateP256Key();
    const one = parseCertificate(appLeaf({ config, issuer: authority, spki: key.spki, now }));
    const two = parseCertificate(appLeaf({ config, issuer: authority, spki: key.spki, now: now + 86_400 }));
    expect(one.serial).not.toEqual(two.serial);
    expect(two.notAfter).toBe(authority.notAfter);
  });
});

const appInfo: AppInfo = {
  appId,
  composeHash: new Uint8Array(32).fill(0x33),
  instanceId: new Uint8Array(20).fill(0x22),
  deviceId: new Uint8Array(32).fill(0x44),
  mrSystem: new Uint8Array(32).fill(0x55),
  mrAggregated: new Uint8Array(32).fill(0x66),
  osImageHash: new Uint8Array(32).fill(0x77),
  keyProviderInfo: new TextEncoder().encode('{"name":"kms","id":"00"}'),
};

describe('what is refused', () => {
  const key = generateP256Key();
  const leaf = (changes: Partial<CsrConfig>, forbiddenNames: string[] = []): Uint8Array =>
    appLeaf({ config: { ...config, ...changes }, issuer: authority, spki: key.spki, now, forbiddenNames });

  it.each<[string, Partial<CsrConfig>]>([
    ['a time of the year 10000', { notAfter: 253_402_300_800n }],
    ['the largest time', { notAfter: 2n ** 64n - 1n }],
    ['a start in the year 10000', { notBefore: 253_402_300_800n }],
    ['an end beyond ten years', { notAfter: BigInt(now + 3651 * 86_400) }],
    ['an end before the start', { notBefore: 1_800_000_000n, notAfter: 1_700_000_000n }],
    ['an end at the start', { notBefore: 1_700_000_000n, notAfter: 1_700_000_000n }],
    ['a NUL in a name', { subjectAltNames: ['a\0b'] }],
    ['a NUL in the subject', { subject: 't\0x' }],
    ['a line break in the organization', { orgName: 'a\nb' }],
    ['a name that is not ASCII', { subjectAltNames: ['ä.example'] }],
    ['101 names', { subjectAltNames: Array.from({ length: 101 }, (_, i) => `n${i}`) }],
    ['a long name', { subjectAltNames: ['x'.repeat(254)] }],
    ['a long subject', { subject: 'x'.repeat(1025) }],
    ['half a surrogate pair', { subject: '\ud800' }],
  ])('%s', (_, changes) => {
    expect(() => leaf(changes)).toThrow(RaTlsError);
  });

  it('a wildcard that covers the name of the KMS, and another spelling of its address', () => {
    for (const [name, own] of [
      ['*.example', 'kms.example'],
      ['*.Example.', 'kms.example'],
      ['k*.example', 'kms.example'],
      ['*ms.example', 'kms.example'],
      ['k*s.example', 'kms.example'],
      ['k**s.example..', 'kms.example'],
      [' kms.example ', 'kms.example'],
      ['0:0::1', '::1'],
    ] as const) {
      expect(() => leaf({ subjectAltNames: [name] }, [own]), name).toThrow(/belongs to the KMS/);
    }
    for (const name of ['*.org', '*.kms.example', '*example', 'x*.example', 'km*ms.example', '*']) {
      expect(() => leaf({ subjectAltNames: [name] }, ['kms.example']), name).not.toThrow();
    }
  });

  it('the names of the KMS itself, however written', () => {
    for (const name of ['kms.example', 'KMS.example', 'kms.EXAMPLE.']) {
      expect(() => leaf({ subject: name }, ['kms.example'])).toThrow(/belongs to the KMS/);
      expect(() => leaf({ subjectAltNames: ['a', name] }, ['Kms.example'])).toThrow(/belongs to the KMS/);
    }
  });

  it('keys of another curve, and a signer whose key is another', () => {
    const spki = key.spki.subarray(1);
    expect(() => issueCertificate({ subject: { commonName: '' }, spki, issuer: key, notAfter: now })).toThrow(
      RaTlsError,
    );
    expect(() => issuerOf(rootCa({ key: rootKey, now }), key)).toThrow(RaTlsError);
  });

  it('nothing else: any text gives a certificate or a RaTlsError', () => {
    fc.assert(
      fc.property(
        fc.string({ unit: 'binary' }),
        fc.array(fc.string({ unit: 'binary' })),
        (subject, subjectAltNames) => {
          try {
            expect(new X509Certificate(leaf({ subject, subjectAltNames })).ca).toBe(false);
          } catch (error) {
            expect(error).toBeInstanceOf(RaTlsError);
          }
        },
      ),
      { numRuns: 50 },
    );
  });
});

describe('alternative names', () => {
  it.each([
    ['1.2.3.4', 'IP Address:1.2.3.4'],
    ['::', 'IP Address:0:0:0:0:0:0:0:0'],
    ['2001:db8::1', 'IP Address:2001:DB8:0:0:0:0:0:1'],
    ['::ffff:1.2.3.4', 'IP Address:0:0:0:0:0:FFFF:102:304'],
    ['1:2:3:4:5:6:7:8', 'IP Address:1:2:3:4:5:6:7:8'],
    ['fe80::1%eth0', 'DNS:fe80::1%eth0'],
    ['1.2.3', 'DNS:1.2.3'],
  ])('%s', (name, expected) => {
    const key = generateP256Key();
    const der = rpcCertificate({ issuer: root, domain: name, spki: key.spki, now });
    expect(new X509Certificate(der).subjectAltName).toBe(expected);
  });
});
