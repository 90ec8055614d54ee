import { randomBytes } from 'node:crypto';
import { concatBytes } from '@dstack-cloud/encoding';
import { blake2b } from '@noble/hashes/blake2.js';
import { expectLength, KeysError } from './errors.ts';
import { x25519PublicKey, x25519SharedSecret } from './x25519.ts';
import { hsalsa20, openSecretBox, secretBox } from './xsalsa20-poly1305.ts';

const KEY = 32;
const NONCE = 24;

/**
 * A sealed box of libsodium (`crypto_box_seal`): for whoever holds the secret of an X25519 key, from nobody in
 * particular. A throw-away public key, then the box; the nonce follows from both public keys.
 *
 * @param throwAway 32 random bytes
 */
export function sealBox(
  message: Uint8Array,
  publicKey: Uint8Array,
  throwAway: Uint8Array = new Uint8Array(randomBytes(KEY)),
): Uint8Array {
  const own = x25519PublicKey(throwAway);
  return concatBytes(own, secretBox(message, nonceOf(own, publicKey), boxKey(throwAway, publicKey)));
}

/** @throws KeysError `decryption-failed`, `invalid-key`, `invalid-length` */
export function openSealedBox(sealed: Uint8Array, secret: Uint8Array): Uint8Array {
  expectLength('X25519 secret', secret, KEY);
  if (sealed.length < KEY)
    throw new KeysError('decryption-failed', 'A sealed box starts with 32 bytes of key');
  const theirs = sealed.slice(0, KEY);
  const nonce = nonceOf(theirs, x25519PublicKey(secret));
  return openSecretBox(sealed.subarray(KEY), nonce, boxKey(secret, theirs));
}

function nonceOf(throwAway: Uint8Array, recipient: Uint8Array): Uint8Array {
  return blake2b(concatBytes(throwAway, recipient), { dkLen: NONCE });
}

function boxKey(secret: Uint8Array, publicKey: Uint8Array): Uint8Array {
  return hsalsa20(x25519SharedSecret(secret, publicKey), new Uint8Array(16));
}
