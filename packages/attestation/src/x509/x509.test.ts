import { generateKeyPairSync, sign } from 'node:crypto';
import { concatBytes, contextTag, der, toHex } from '@dstack-cloud/encoding';
import { describeWithFixtures, fixture } from '@dstack-cloud/test/fixtures';
import { describe, expect, it } from 'vitest';
import { nodeCrypto } from '../crypto/node-crypto.ts';
import { VerificationCache } from '../crypto/verification-cache.ts';
import { AttestationError } from '../errors.ts';
import { vendorRoots } from '../roots/vendor-roots.ts';
import { mutate, seededRandom } from '../testing/mutate.ts';
import { type Certificate, nameAttribute, parseCertificate, parseCertificateChain } from './certificate.ts';
import { parseCrl } from './crl.ts';
import { checkRevocation } from './revocation.ts';

const NOW = 1_700_000_000;
const ECDSA_SHA256 = der.sequence(der.oid('1.2.840.10045.4.3.2'));
const name = (text: string) => der.sequence(der.set(der.sequence(der.oid('2.5.4.3'), der.utf8String(text))));
const issuerName = name('Test CA');
const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const spki = new Uint8Array(publicKey.export({ type: 'spki', format: 'der' }));

function signed(tbs: Uint8Array, key = privateKey): Uint8Array {
  return der.sequence(tbs, ECDSA_SHA256, der.bitString(new Uint8Array(sign('sha256', tbs, key))));
}

interface CrlParts {
  thisUpdate?: number;
  nextUpdate?: number | null;
  entries?: Uint8Array[];
  extensions?: Uint8Array[];
  issuer?: Uint8Array;
}

function crl(parts: CrlParts, key = privateKey): Uint8Array {
  const {
    thisUpdate = NOW - 100,
    nextUpdate = NOW + 100,
    entries = [],
    extensions = [],
    issuer = issuerName,
  } = parts;
  return signed(
    der.sequence(
      der.integer(1),
      ECDSA_SHA256,
      issuer,
      der.time(thisUpdate),
      nextUpdate === null ? new Uint8Array() : der.time(nextUpdate),
      entries.length > 0 ? der.sequence(...entries) : new Uint8Array(),
      extensions.length > 0 ? der.explicit(0, der.sequence(...extensions)) : new Uint8Array(),
    ),
    key,
  );
}

const entry = (serial: number, ...extensions: Uint8Array[]) =>
  der.sequence(
    der.integer(serial),
    der.time(NOW - 200),
    extensions.length > 0 ? der.sequence(...extensions) : new Uint8Array(),
  );
const extension = (oid: string, value: Uint8Array, critical = false) =>
  der.sequence(der.oid(oid), critical ? der.boolean(true) : new Uint8Array(), der.octetString(value));
const scope = (url: string) => {
  const fullName = der.implicit(0, der.implicit(6, new TextEncoder().encode(url)), true);
  return der.sequence(der.raw(contextTag(0), fullName));
};

function certificate(serial: number, change: Partial<Certificate> = {}): Certificate {
  const tbs = der.sequence(
    der.explicit(0, der.integer(2)),
    der.integer(serial),
    ECDSA_SHA256,
    issuerName,
    der.sequence(der.time(NOW - 1000), der.time(NOW + 1000)),
    name(`leaf ${serial}`),
    spki,
  );
  return { ...parseCertificate(signed(tbs)), ...change };
}
const ca = certificate(1, { subject: issuerName });

function ask(leaf: Certificate, lists: Uint8Array[], now = NOW): Promise<unknown> {
  const rules = { now, revocation: 'required', crls: lists.map(parseCrl) } as const;
  return checkRevocation([leaf, ca], rules, nodeCrypto, new VerificationCache());
}

describe('revocation lists', () => {
  it('says nothing against a certificate that it does not name', async () => {
    await ask(certificate(5), [crl({ entries: [entry(4), entry(6)] })]);
  });

  it.each<[string, Uint8Array[], number, string]>([
    ['a certificate on the list', [crl({ entries: [entry(5)] })], NOW, 'revoked'],
    ['a certificate on one of two lists', [crl({}), crl({ entries: [entry(5)] })], NOW, 'revoked'],
    ['no list', [], NOW, 'revocation-unknown'],
    ['a list of another issuer', [crl({ issuer: name('Other') })], NOW, 'revocation-unknown'],
    [
      'a list signed by another key',
      [crl({}, generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey)],
      NOW,
      'signature-invalid',
    ],
    ['a list before thisUpdate', [crl({})], NOW - 101, 'not-yet-valid'],
    ['a list at nextUpdate', [crl({})], NOW + 100, 'expired'],
    [
      'a list for another distribution point',
      [crl({ extensions: [extension('2.5.29.28', scope('http://other/'), true)] })],
      NOW,
      'revocation-unknown',
    ],
  ])('refuses %s', async (_name, lists, now, code) => {
    await expect(ask(certificate(5), lists, now)).rejects.toMatchObject({ code });
  });

  it('takes a list for the distribution point of the certificate', async () => {
    const list = crl({ extensions: [extension('2.5.29.28', scope('http://crl/'), true)] });
    await ask(certificate(5, { crlUrls: ['http://crl/'] }), [list]);
  });

  it('refuses an issuer that may not sign lists', async () => {
    const keyUsage = { digitalSignature: false, keyEncipherment: false, keyCertSign: true, crlSign: false };
    const rules = { now: NOW, revocation: 'required', crls: [parseCrl(crl({}))] } as const;
    await expect(
      checkRevocation([certificate(5), { ...ca, keyUsage }], rules, nodeCrypto, new VerificationCache()),
    ).rejects.toMatchObject({ code: 'chain-invalid' });
  });

  it.each<[string, Uint8Array]>([
    ['no nextUpdate', crl({ nextUpdate: null })],
    ['a delta list', crl({ extensions: [extension('2.5.29.27', der.integer(1), true)] })],
    ['a delta list that hides it', crl({ extensions: [extension('2.5.29.27', der.integer(1))] })],
    ['an unknown critical extension', crl({ extensions: [extension('1.2.3.4', der.null(), true)] })],
    ['an indirect entry', crl({ entries: [entry(4, extension('2.5.29.29', issuerName, true))] })],
    [
      'an indirect entry after one with harmless extensions',
      crl({
        entries: [
          entry(3, extension('2.5.29.21', der.raw(0x0a, Uint8Array.of(1)))),
          entry(4, extension('2.5.29.29', issuerName, true)),
        ],
      }),
    ],
    [
      'a list of user certificates only',
      crl({
        extensions: [
          extension('2.5.29.28', der.sequence(der.raw(contextTag(1, false), Uint8Array.of(0xff))), true),
        ],
      }),
    ],
    ['trailing bytes', concatBytes(crl({}), Uint8Array.of(0))],
    ['nothing', new Uint8Array()],
  ])('cannot read %s', (_name, bytes) => {
    expect(() => parseCrl(bytes)).toThrow(AttestationError);
  });
});

describe('certificates', () => {
  it('reads the pinned roots', () => {
    const intel = parseCertificate(vendorRoots().tdx[0]!.der);
    expect(nameAttribute(intel.subject, '2.5.4.3')).toBe('Intel SGX Root CA');
    expect(nameAttribute(intel.subject, '2.5.4.99')).toBeUndefined();
    expect([intel.isCa, intel.pathLength, intel.keyUsage?.crlSign]).toEqual([true, 1, true]);
    expect(intel.crlUrls).toEqual(['https://certificates.trustedservices.intel.com/IntelSGXRootCA.der']);
    expect(toHex(nodeCrypto.hash('sha256', intel.der))).toBe(
      '44a0196b2b99f889b8e149e95b807a350e7424964399e885a7cbb8ccfab674d3',
    );
  });

  it('refuses a PEM text without certificates, or with too many', () => {
    expect(() => parseCertificateChain('nothing')).toThrow('Not a certificate');
    expect(() => parseCertificateChain('-----BEGIN X509 CRL-----\n-----END X509 CRL-----')).toThrow(
      'no certificate',
    );
  });

  it('throws nothing but its own error on mutants', () => {
    const random = seededRandom(7);
    for (const root of [vendorRoots().tdx[0]!, vendorRoots().gcpTpm[0]!, vendorRoots().nitro[0]!]) {
      for (let i = 0; i < 3000; i++) refuseCleanly(() => parseCertificate(mutate(root.der, random)));
    }
  });

  describeWithFixtures('of Intel', 'attestation/pcs/gotdx-pckcrl.der', () => {
    it('throws nothing but its own error on mutants of a list', () => {
      const random = seededRandom(8);
      const bytes = fixture('attestation/pcs/gotdx-pckcrl.der');
      expect(parseCrl(bytes).revokedSerials.size).toBe(44);
      for (let i = 0; i < 5000; i++) refuseCleanly(() => parseCrl(mutate(bytes, random)));
    });
  });
});

function refuseCleanly(run: () => unknown): void {
  try {
    run();
  } catch (error) {
    expect(error).toBeInstanceOf(AttestationError);
  }
}
