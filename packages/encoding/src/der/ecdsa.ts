import { EncodingError } from '../errors.ts';
import { DerReader, readDer } from './der-reader.ts';
import { derTag } from './der-tag.ts';
import { derInteger } from './der-values.ts';
import { der } from './der-writer.ts';

/**
 * Turns an ECDSA signature from `SEQUENCE { r, s }` (RFC 3279 section 2.2.3) into `r || s`.
 * @param size bytes of each number: 32 for P-256 and secp256k1, 48 for P-384
 * @throws EncodingError unless strict DER with two positive numbers that fit
 */
export function ecdsaDerToRaw(signature: Uint8Array, size: number): Uint8Array {
  const outer = readDer(signature);
  if (outer.tag !== derTag.sequence)
    throw new EncodingError('unexpected-tag', 'ECDSA signature is no SEQUENCE');
  const reader = new DerReader(outer.contents);
  const out = new Uint8Array(2 * size);
  for (const end of [size, 2 * size]) {
    const element = reader.next(derTag.integer);
    if (derInteger(element) <= 0n) throw new EncodingError('invalid-value', 'ECDSA number is not positive');
    const digits = element.contents[0] === 0 ? element.contents.subarray(1) : element.contents;
    if (digits.length > size) throw new EncodingError('too-large', `ECDSA number exceeds ${size} bytes`);
    out.set(digits, end - digits.length);
  }
  reader.finish();
  return out;
}

/** Turns `r || s` into `SEQUENCE { r, s }`. @throws EncodingError for an odd or zero length */
export function ecdsaRawToDer(signature: Uint8Array): Uint8Array {
  if (signature.length === 0 || signature.length % 2 !== 0) {
    throw new EncodingError('invalid-value', `ECDSA signature has ${signature.length} bytes`);
  }
  const half = signature.length / 2;
  return der.sequence(der.integer(signature.subarray(0, half)), der.integer(signature.subarray(half)));
}
