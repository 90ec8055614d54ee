import { generateKeyPairSync, type KeyObject, sign } from 'node:crypto';
import { der } from '@dstack-cloud/encoding';
import { describe, expect, it } from 'vitest';
import { AttestationError } from './errors.ts';
import { requireOptionalRevocation } from './optional-revocation.ts';
import { vendorRoots } from './roots/vendor-roots.ts';
import { verifyContext } from './verify.ts';
import { type Certificate, parseCertificate } from './x509/certificate.ts';

const NOW = 1_700_000_000;
const ECDSA_SHA256 = der.sequence(der.oid('1.2.840.10045.4.3.2'));
const name = (text: string) => der.sequence(der.set(der.sequence(der.oid('2.5.4.3'), der.utf8String(text))));
const keyPair = () => generateKeyPairSync('ec', { namedCurve: 'P-256' });
const [own, other] = [keyPair(), keyPair()];

function signed(tbs: Uint8Array, key: KeyObject): Uint8Array {
  return der.sequence(tbs, ECDSA_SHA256, der.bitString(new Uint8Array(sign('sha256', tbs, key))));
}

function certificate(subject: string, serial: number, crlUrls: readonly string[]): Certificate {
  const tbs = der.sequence(
    der.explicit(0, der.integer(2)),
    der.integer(serial),
    ECDSA_SHA256,
    name('CA'),
    der.sequence(der.time(NOW - 1000), der.time(NOW + 1000)),
    name(subject),
    new Uint8Array(own.publicKey.export({ type: 'spki', format: 'der' })),
  );
  return { ...parseCertificate(signed(tbs, own.privateKey)), crlUrls };
}

function list(issuer = 'CA', key = own.privateKey, ...serials: number[]): Uint8Array {
  const entries = serials.map((serial) => der.sequence(der.integer(serial), der.time(NOW - 200)));
  const tbs = der.sequence(
    der.integer(1),
    ECDSA_SHA256,
    name(issuer),
    der.time(NOW - 100),
    der.time(NOW + 100),
    ...(entries.length > 0 ? [der.sequence(...entries)] : []),
  );
  return signed(tbs, key);
}

/** Judges a leaf whose list is this; without one the source answers that there is none. */
async function judge(mode: 'off' | 'soft' | 'hard', answer: Uint8Array | undefined): Promise<string> {
  const context = verifyContext({
    roots: vendorRoots(),
    collateral: {
      tdx: () => Promise.reject(new Error('unused')),
      crl: () =>
        answer
          ? Promise.resolve(answer)
          : Promise.reject(new AttestationError('collateral-unavailable', 'none is served')),
    },
    now: NOW,
  });
  const chain = [certificate('leaf', 5, ['http://vendor/crl']), certificate('CA', 1, [])];
  const path = { chain, anchor: vendorRoots().nitro[0]!, validFrom: 0, validUntil: NOW, crls: [] };
  try {
    await requireOptionalRevocation(path, { id: 'nitro.revocation', reference: '', mode }, context);
    return 'good';
  } catch (error) {
    return (error as AttestationError).code;
  }
}

describe('lists that need not be had', () => {
  it.each<[string, Uint8Array | undefined, string, string]>([
    ['of the issuer', list(), 'good', 'good'],
    ['that names the certificate', list('CA', own.privateKey, 5), 'revoked', 'revoked'],
    ['that names another', list('CA', own.privateKey, 6), 'good', 'good'],
    ['by another key', list('CA', other.privateKey), 'signature-invalid', 'signature-invalid'],
    ['of another issuer', list('Other CA', other.privateKey), 'good', 'revocation-unknown'],
    [
      'of another issuer, who names the certificate',
      list('Other CA', other.privateKey, 5),
      'good',
      'revocation-unknown',
    ],
    ['that is not served', undefined, 'good', 'collateral-unavailable'],
    ['that is none', Uint8Array.of(1, 2, 3), 'malformed', 'malformed'],
  ])('a list %s', async (_name, answer, soft, hard) => {
    expect(await judge('soft', answer)).toBe(soft);
    expect(await judge('hard', answer)).toBe(hard);
    expect(await judge('off', answer)).toBe('good');
  });
});
