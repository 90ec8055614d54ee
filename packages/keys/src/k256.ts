import { expectLength, KeysError } from './errors.ts';
import { k256 } from './k256/choose-backend.ts';
import { hasHighS, hasScalarsInRange } from './k256/scalar-range.ts';
import { keccak256 } from './keccak256.ts';

/** Which library computes secp256k1 here; slower `noble` where the native one does not load. */
export function k256Backend(): 'libsecp256k1' | 'noble' {
  return k256().name;
}

/** The compressed SEC1 public key (33 bytes) of a secp256k1 secret. @throws KeysError when the secret is out of range */
export function k256PublicKey(secret: Uint8Array): Uint8Array {
  expectLength('secp256k1 secret', secret, 32);
  return inRange(() => k256().publicKey(secret));
}

/** Signs Keccak-256 of the message; see `signK256Digest`. */
export function signK256(message: Uint8Array, secret: Uint8Array): Uint8Array {
  return signK256Digest(keccak256(message), secret);
}

/**
 * Signs a 32-byte digest with secp256k1: `r || s || v`, 65 bytes, low S, v 0 or 1, nonce of RFC 6979
 * (docs/protocol/keys.md section 5).
 */
export function signK256Digest(digest: Uint8Array, secret: Uint8Array): Uint8Array {
  expectLength('Digest', digest, 32);
  expectLength('secp256k1 secret', secret, 32);
  return inRange(() => k256().sign(digest, secret));
}

/** The compressed public key (33 bytes) that signed Keccak-256 of the message; see `recoverK256Digest`. */
export function recoverK256(message: Uint8Array, signature: Uint8Array): Uint8Array {
  return recoverK256Digest(keccak256(message), signature);
}

/** The compressed public key (33 bytes) that made `r || s || v`. @throws KeysError for a high S, v above 3, or no key */
export function recoverK256Digest(digest: Uint8Array, signature: Uint8Array): Uint8Array {
  expectLength('Digest', digest, 32);
  expectLength('Recoverable signature', signature, 65);
  if (hasScalarsInRange(signature) && hasHighS(signature)) {
    throw new KeysError('invalid-signature', 'The signature has a high S');
  }
  try {
    if (!hasScalarsInRange(signature)) throw new RangeError('r or s is out of range');
    return k256().recover(digest, signature);
  } catch (cause) {
    throw new KeysError('invalid-signature', 'The signature gives no public key', { cause });
  }
}

function inRange<T>(compute: () => T): T {
  try {
    return compute();
  } catch (cause) {
    throw new KeysError('invalid-key', 'The secp256k1 secret is out of range', { cause });
  }
}
