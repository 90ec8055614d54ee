import { createHash } from 'node:crypto';
import { concatBytes, der, ecdsaRawToDer, utf8 } from '@dstack-cloud/encoding';
import { p256, p384 } from '@noble/curves/nist.js';

const CURVES = {
  p256: { curve: p256, hash: 'sha256', prefix: 'dstack-mock-p256-v1', oid: '1.2.840.10045.3.1.7' },
  p384: { curve: p384, hash: 'sha384', prefix: 'dstack-mock-p384-v1', oid: '1.3.132.0.34' },
} as const;

/** OID of ecdsa-with-SHA256 and ecdsa-with-SHA384 (RFC 5758 section 3.2). */
const SIGNATURE_OIDS = { p256: '1.2.840.10045.4.3.2', p384: '1.2.840.10045.4.3.3' } as const;

export type SeededCurve = 'p256' | 'p384';

/** A test key that a seed and a label determine. Its seed is public: nothing real may ever trust it. */
export interface SeededKey {
  readonly curve: SeededCurve;
  /** Private scalar, 32 or 48 bytes. */
  readonly scalar: Uint8Array;
  /** x‖y without the leading 04. */
  readonly publicKey: Uint8Array;
  /** SubjectPublicKeyInfo, DER. */
  readonly spki: Uint8Array;
  /** AlgorithmIdentifier of this key's signatures, DER. */
  readonly algorithm: Uint8Array;
  /** r‖s over the curve's hash of the message; deterministic (RFC 6979). */
  sign(message: Uint8Array): Uint8Array;
  /** The same signature as X.509 carries it. */
  signDer(message: Uint8Array): Uint8Array;
}

/**
 * The key of `label` under a 32-byte seed: H(prefix ‖ seed ‖ label ‖ counter u32 BE), counter from 0 until the
 * value is a scalar of the curve. The derivation is that of the public mock-attestation evidence, so that the
 * same seed gives the same keys there and here.
 */
export function seededKey(seed: Uint8Array, label: string, curve: SeededCurve = 'p256'): SeededKey {
  const { curve: group, hash, prefix, oid } = CURVES[curve];
  for (let counter = 0; ; counter++) {
    const scalar = new Uint8Array(
      createHash(hash).update(utf8(prefix)).update(seed).update(utf8(label)).update(u32be(counter)).digest(),
    );
    if (!group.utils.isValidSecretKey(scalar)) continue;
    const point = group.getPublicKey(scalar, false);
    const algorithm = der.sequence(der.oid('1.2.840.10045.2.1'), der.oid(oid));
    const sign = (message: Uint8Array): Uint8Array => group.sign(message, scalar, { lowS: false });
    return {
      curve,
      scalar,
      publicKey: point.subarray(1),
      spki: der.sequence(algorithm, der.bitString(point)),
      algorithm: der.sequence(der.oid(SIGNATURE_OIDS[curve])),
      sign,
      signDer: (message) => ecdsaRawToDer(sign(message)),
    };
  }
}

/** Public bytes that a seed and a label determine: identifiers, serial numbers. At most 64 bytes. */
export function seededBytes(seed: Uint8Array, label: string, length: number): Uint8Array {
  const text = concatBytes(utf8('dstack-simulated-bytes-v1'), seed, utf8(label));
  return new Uint8Array(createHash('sha512').update(text).digest()).subarray(0, length);
}

function u32be(value: number): Uint8Array {
  return Uint8Array.of(value >>> 24, value >>> 16, value >>> 8, value);
}
