import { createHash } from 'node:crypto';
import { KeysError } from './errors.ts';
import { type Context, hkdf } from './hkdf.ts';
import { isP256Scalar, type P256Key, p256KeyFromScalar } from './p256-key.ts';

/**
 * `derive_p256` of docs/protocol/keys.md section 2.2, the scalar only.
 * @throws KeysError when it is 0 or not below the order
 */
export function deriveP256Scalar(ikm: Uint8Array, contexts: readonly Context[]): Uint8Array {
  const scalar = hkdf(ikm, contexts, 32);
  if (!isP256Scalar(scalar)) throw new KeysError('invalid-key', 'The derived P-256 scalar is out of range');
  return scalar;
}

/** `derive_p256` of docs/protocol/keys.md section 2.2. */
export function deriveP256Key(ikm: Uint8Array, contexts: readonly Context[]): P256Key {
  return p256KeyFromScalar(deriveP256Scalar(ikm, contexts));
}

/** `derive_dh` of docs/protocol/keys.md section 2.3: SHA-256 of the PKCS#8 DER of a derived P-256 key; 32 bytes. */
export function deriveDhSecret(scalar: Uint8Array, contexts: readonly Context[]): Uint8Array {
  const pkcs8 = deriveP256Key(scalar, contexts).pkcs8;
  const secret = new Uint8Array(createHash('sha256').update(pkcs8).digest());
  pkcs8.fill(0);
  return secret;
}
