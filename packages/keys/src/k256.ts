import { createECDH } from 'node:crypto';
import { concatBytes } from '@dstack-cloud/encoding';
import { secp256k1 } from '@noble/curves/secp256k1.js';
import { expectLength, KeysError } from './errors.ts';
import { keccak256 } from './keccak256.ts';

/** The compressed SEC1 public key (33 bytes) of a secp256k1 secret. @throws KeysError when the secret is out of range */
export function k256PublicKey(secret: Uint8Array): Uint8Array {
  expectLength('secp256k1 secret', secret, 32);
  try {
    const ecdh = createECDH('secp256k1');
    ecdh.setPrivateKey(secret);
    return new Uint8Array(ecdh.getPublicKey(null, 'compressed'));
  } catch (cause) {
    throw new KeysError('invalid-key', 'The secp256k1 secret is out of range', { cause });
  }
}

/** Signs Keccak-256 of the message; see `signK256Digest`. */
export function signK256(message: Uint8Array, secret: Uint8Array): Uint8Array {
  return signK256Digest(keccak256(message), secret);
}

/**
 * Signs a 32-byte digest with secp256k1: `r || s || v`, 65 bytes, low S, v 0 or 1, nonce of RFC 6979
 * (chapter 10 section 4.4).
 */
export function signK256Digest(digest: Uint8Array, secret: Uint8Array): Uint8Array {
  expectLength('Digest', digest, 32);
  try {
    const signature = secp256k1.sign(digest, secret, { prehash: false, lowS: true, format: 'recovered' });
    // noble puts the recovery id first; the wire has it last.
    return concatBytes(signature.subarray(1), signature.subarray(0, 1));
  } catch (cause) {
    throw new KeysError('invalid-key', 'The secp256k1 secret is out of range', { cause });
  }
}

/** The compressed public key (33 bytes) that signed Keccak-256 of the message; see `recoverK256Digest`. */
export function recoverK256(message: Uint8Array, signature: Uint8Array): Uint8Array {
  return recoverK256Digest(keccak256(message), signature);
}

/** The compressed public key (33 bytes) that made `r || s || v`. @throws KeysError for a high S, v above 3, or no key */
export function recoverK256Digest(digest: Uint8Array, signature: Uint8Array): Uint8Array {
  expectLength('Digest', digest, 32);
  expectLength('Recoverable signature', signature, 65);
  try {
    const parsed = secp256k1.Signature.fromBytes(signature.subarray(0, 64), 'compact');
    if (parsed.hasHighS()) throw new KeysError('invalid-signature', 'The signature has a high S');
    return parsed.addRecoveryBit(signature[64]!).recoverPublicKey(digest).toBytes(true);
  } catch (cause) {
    if (cause instanceof KeysError) throw cause;
    throw new KeysError('invalid-signature', 'The signature gives no public key', { cause });
  }
}
