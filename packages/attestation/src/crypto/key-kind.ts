import {
  DerReader,
  derBitString,
  derInteger,
  derOid,
  derTag,
  fromHex,
  readDer,
} from '@dstack-cloud/encoding';
import { decoding } from '../decoding.ts';
import { AttestationError } from '../errors.ts';
import type { KeyKind } from './backend.ts';

// SubjectPublicKeyInfo up to and with the 04 of an uncompressed point (RFC 5480): named curve only, so that
// explicit curve parameters can never choose their own generator.
const P256_PREFIX = fromHex('3059301306072a8648ce3d020106082a8648ce3d03010703420004');
const P384_PREFIX = fromHex('3076301006072a8648ce3d020106052b8104002203620004');
const RSA_ENCRYPTION = '1.2.840.113549.1.1.1';
const MIN_RSA_BITS = 2048;
const MAX_RSA_BITS = 8192;

/** Length of r and of s, bytes. */
export const SCALAR_SIZE: Readonly<Record<'p256' | 'p384', number>> = { p256: 32, p384: 48 };

/** SubjectPublicKeyInfo of a P-256 point given as x‖y (64 bytes). */
export function p256Spki(point: Uint8Array): Uint8Array {
  const spki = new Uint8Array(P256_PREFIX.length + point.length);
  spki.set(P256_PREFIX);
  spki.set(point, P256_PREFIX.length);
  return spki;
}

/**
 * What kind of key a SubjectPublicKeyInfo holds.
 * @throws AttestationError `unsupported` for other algorithms, curves, point forms and RSA sizes
 */
export function keyKind(spki: Uint8Array): KeyKind {
  if (spki.length === 91 && startsWith(spki, P256_PREFIX)) return 'p256';
  if (spki.length === 120 && startsWith(spki, P384_PREFIX)) return 'p384';
  decoding('RSA public key', () => checkRsa(spki));
  return 'rsa';
}

function checkRsa(spki: Uint8Array): void {
  const reader = new DerReader(readDer(spki).contents);
  const algorithm = new DerReader(reader.next(derTag.sequence).contents);
  const oid = derOid(algorithm.next(derTag.oid));
  if (oid !== RSA_ENCRYPTION) {
    throw new AttestationError('unsupported', `Public key algorithm ${oid} is not accepted`, { found: oid });
  }
  algorithm.next(derTag.null);
  algorithm.finish();
  const { bytes } = derBitString(reader.next(derTag.bitString));
  reader.finish();
  const key = new DerReader(readDer(bytes).contents);
  const modulus = derInteger(key.next(derTag.integer));
  const exponent = derInteger(key.next(derTag.integer));
  key.finish();
  const bits = modulus <= 0n ? 0 : modulus.toString(2).length;
  if (bits < MIN_RSA_BITS || bits > MAX_RSA_BITS || exponent < 3n || exponent > 0xffffffffn) {
    throw new AttestationError(
      'unsupported',
      `RSA key of ${bits} bits, exponent ${exponent} is not accepted`,
    );
  }
}

function startsWith(bytes: Uint8Array, prefix: Uint8Array): boolean {
  return prefix.every((byte, i) => bytes[i] === byte);
}
