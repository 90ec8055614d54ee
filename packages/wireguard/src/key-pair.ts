import { randomBytes } from 'node:crypto';
import { x25519PublicKey } from '@dstack-cloud/keys';

/** The key of an interface, both halves base64. */
export type WireGuardKeyPair = { readonly privateKey: string; readonly publicKey: string };

export function newKeyPair(): WireGuardKeyPair {
  return keyPairOf(randomBytes(32).toString('base64'));
}

/** @param privateKey base64 of 32 bytes */
export function keyPairOf(privateKey: string): WireGuardKeyPair {
  const publicKey = x25519PublicKey(new Uint8Array(Buffer.from(privateKey, 'base64')));
  return { privateKey, publicKey: Buffer.from(publicKey).toString('base64') };
}
