import { createHash, createPublicKey, type KeyObject, sign, verify } from 'node:crypto';
import { concatBytes, fromHex } from '@dstack-cloud/encoding';
import { ed25519 } from '@noble/curves/ed25519.js';
import { expectLength, KeysError } from './errors.ts';
import { ed25519PrivateKey } from './get-key.ts';
import { k256 } from './k256/choose-backend.ts';
import { hasHighS, hasScalarsInRange } from './k256/scalar-range.ts';
import { signK256Digest } from './k256.ts';

const ED25519_SPKI_PREFIX = fromHex('302a300506032b6570032100');

/**
 * Sign of the guest agent (docs/protocol/keys.md section 5.4): 64 bytes; secp256k1 signs SHA-256 of the data with low S
 * and RFC 6979.
 * @param algorithm `secp256k1` (or `k256`), `secp256k1_prehashed`, `ed25519`
 * @throws KeysError `Unsupported algorithm`, or for a digest that is not 32 bytes
 */
export function signData(algorithm: string, key: Uint8Array, data: Uint8Array): Uint8Array {
  if (algorithm === 'ed25519') return new Uint8Array(sign(null, data, ed25519PrivateKey(key)));
  expectLength('secp256k1 secret', key, 32);
  return signK256Digest(messageDigest(algorithm, data, 'signing'), key).slice(0, 64);
}

/**
 * Verify of the guest agent (docs/protocol/keys.md section 5.4). A high S is a wrong signature.
 * @param publicKey SEC1, 33 or 65 bytes, or Ed25519, 32 bytes
 * @throws KeysError for an unknown algorithm, and for keys and signatures that are not well formed
 */
export function verifyData(
  algorithm: string,
  data: Uint8Array,
  signature: Uint8Array,
  publicKey: Uint8Array,
): boolean {
  if (algorithm === 'ed25519') return verifyEd25519(data, signature, publicKey);
  const digest = messageDigest(algorithm, data, 'verification');
  const { isPublicKey, verify: verifyK256 } = k256();
  if (signature.length !== 64 || !isPublicKey(publicKey) || !hasScalarsInRange(signature)) {
    throw new KeysError('invalid-signature', 'signature error');
  }
  return !hasHighS(signature) && verifyK256(digest, signature, publicKey);
}

function messageDigest(algorithm: string, data: Uint8Array, action: string): Uint8Array {
  if (algorithm === 'secp256k1' || algorithm === 'k256') {
    return new Uint8Array(createHash('sha256').update(data).digest());
  }
  if (algorithm !== 'secp256k1_prehashed')
    throw new KeysError('unsupported-algorithm', 'Unsupported algorithm');
  if (data.length !== 32) {
    const text = `Pre-hashed ${action} requires a 32-byte digest, but received ${data.length} bytes`;
    throw new KeysError('invalid-length', text);
  }
  return data;
}

function verifyEd25519(data: Uint8Array, signature: Uint8Array, publicKey: Uint8Array): boolean {
  if (publicKey.length !== 32) throw new KeysError('invalid-key', 'invalid public key');
  if (signature.length !== 64) throw new KeysError('invalid-signature', 'signature error');
  let key: KeyObject;
  try {
    const spki = Buffer.from(concatBytes(ED25519_SPKI_PREFIX, publicKey));
    key = createPublicKey({ key: spki, format: 'der', type: 'spki' });
  } catch (cause) {
    throw new KeysError('invalid-key', 'invalid public key', { cause });
  }
  if (verify(null, data, key, signature)) return true;
  // OpenSSL takes any 32 bytes as a key; what is no point of the curve is a malformed key, not a wrong signature.
  try {
    ed25519.Point.fromBytes(publicKey, true);
  } catch (cause) {
    throw new KeysError(
      'invalid-key',
      'signature error: Cannot decompress Edwards point: Cannot decompress Edwards point',
      { cause },
    );
  }
  return false;
}
