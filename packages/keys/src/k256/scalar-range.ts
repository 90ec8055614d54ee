import { compareBytes, fromHex, isZero } from '@dstack-cloud/encoding';

/** Order of the secp256k1 group and half of it, SEC 2 section 2.4.1. */
const ORDER = fromHex('fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141');
const HALF_ORDER = fromHex('7fffffffffffffffffffffffffffffff5d576e7357a4501ddfe92f46681b20a0');

/** True for 32 bytes that are less than the group order. */
export function isBelowOrder(scalar: Uint8Array): boolean {
  return compareBytes(scalar, ORDER) < 0;
}

/** True when `r` and `s` (the first 64 bytes of a signature) are both between 1 and the order less 1. */
export function hasScalarsInRange(signature: Uint8Array): boolean {
  return [signature.subarray(0, 32), signature.subarray(32, 64)].every(
    (part) => !isZero(part) && isBelowOrder(part),
  );
}

/** True when `s` is in the upper half, the malleable form of the same signature (low-S rule). */
export function hasHighS(signature: Uint8Array): boolean {
  return compareBytes(signature.subarray(32, 64), HALF_ORDER) > 0;
}
