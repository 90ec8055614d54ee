import { createPrivateKey, createPublicKey, diffieHellman, type KeyObject } from 'node:crypto';
import { concatBytes, fromHex, isZero } from '@dstack-cloud/encoding';
import { expectLength, KeysError } from './errors.ts';

/** Raw keys of RFC 8410 are wrapped by these constant prefixes. */
const PKCS8_PREFIX = fromHex('302e020100300506032b656e04220420');
const SPKI_PREFIX = fromHex('302a300506032b656e032100');

/** The X25519 public key (32 bytes) of a secret; clamping happens inside (RFC 7748 section 5). */
export function x25519PublicKey(secret: Uint8Array): Uint8Array {
  const spki = createPublicKey(privateKey(secret)).export({ format: 'der', type: 'spki' });
  return new Uint8Array(spki.subarray(SPKI_PREFIX.length));
}

/** The shared secret (32 bytes). @throws KeysError when it is all zero (RFC 7748 section 6.1) */
export function x25519SharedSecret(secret: Uint8Array, peer: Uint8Array): Uint8Array {
  expectLength('X25519 public key', peer, 32);
  const spki = Buffer.from(concatBytes(SPKI_PREFIX, peer));
  const publicKey = createPublicKey({ key: spki, format: 'der', type: 'spki' });
  let shared: Uint8Array;
  try {
    shared = new Uint8Array(diffieHellman({ privateKey: privateKey(secret), publicKey }));
  } catch (cause) {
    throw new KeysError('invalid-key', 'The X25519 public key has a small order', { cause });
  }
  if (isZero(shared)) throw new KeysError('invalid-key', 'The X25519 public key has a small order');
  return shared;
}

function privateKey(secret: Uint8Array): KeyObject {
  expectLength('X25519 secret', secret, 32);
  return createPrivateKey({
    key: Buffer.from(concatBytes(PKCS8_PREFIX, secret)),
    format: 'der',
    type: 'pkcs8',
  });
}
