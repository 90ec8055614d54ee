import { randomBytes } from 'node:crypto';
import { KmsError } from '../errors.ts';

/** One share: its x coordinate, 1 to 255, and one byte of each polynomial. */
export type Share = { readonly index: number; readonly data: Uint8Array };

const MAX_SHARES = 255;

/**
 * Splits a secret so that any `threshold` of `count` shares give it back and fewer say nothing about it (Shamir,
 * "How to Share a Secret", 1979), byte by byte over GF(2^8) with the polynomial of AES (FIPS 197 section 4.2).
 * @throws KmsError `backup-invalid`
 */
export function splitSecret(secret: Uint8Array, threshold: number, count: number): Share[] {
  const whole = Number.isInteger(threshold) && Number.isInteger(count);
  if (!whole || threshold < 2 || threshold > count || count > MAX_SHARES) {
    throw new KmsError(
      'backup-invalid',
      `A ${threshold}-of-${count} split is not possible; 2 to 255 shares are`,
    );
  }
  const polynomials = Array.from(secret, (byte) => [byte, ...randomBytes(threshold - 1)]);
  return Array.from({ length: count }, (_, position) => {
    const index = position + 1;
    return { index, data: Uint8Array.from(polynomials, (coefficients) => evaluate(coefficients, index)) };
  });
}

/**
 * The secret of these shares. Whether they are enough, and the right ones, must be checked on the result: any shares
 * give some bytes.
 * @throws KmsError `backup-invalid` for shares that do not go together
 */
export function joinShares(shares: readonly Share[]): Uint8Array {
  const length = shares[0]?.data.length ?? 0;
  const indexes = new Set(shares.map(({ index }) => index));
  if (length === 0 || indexes.size !== shares.length || shares.some(({ data }) => data.length !== length)) {
    throw new KmsError(
      'backup-invalid',
      'These shares do not go together: each must be there once, all of one backup',
    );
  }
  const secret = new Uint8Array(length);
  for (const share of shares) {
    // Lagrange basis at 0: the product of x_j / (x_j - x_i); subtraction is exclusive or.
    let basis = 1;
    for (const other of shares) {
      if (other !== share) basis = multiply(basis, multiply(other.index, invert(other.index ^ share.index)));
    }
    for (let byte = 0; byte < length; byte++) secret[byte]! ^= multiply(basis, share.data[byte]!);
  }
  return secret;
}

function evaluate(coefficients: readonly number[], x: number): number {
  let result = 0;
  for (let degree = coefficients.length - 1; degree >= 0; degree--) {
    result = multiply(result, x) ^ coefficients[degree]!;
  }
  return result;
}

/** Product in GF(2^8) without tables or branches on the operands. */
function multiply(a: number, b: number): number {
  let product = 0;
  let factor = a;
  for (let bit = 0; bit < 8; bit++) {
    product ^= factor & -((b >> bit) & 1);
    factor = ((factor << 1) ^ (0x11b & -(factor >> 7))) & 0xff;
  }
  return product;
}

/** a^254, the inverse of everything but 0. */
function invert(a: number): number {
  let result = 1;
  for (let bit = 7; bit >= 0; bit--) {
    result = multiply(result, result);
    if ((254 >> bit) & 1) result = multiply(result, a);
  }
  return result;
}
