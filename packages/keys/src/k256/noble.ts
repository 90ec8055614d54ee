import { createECDH } from 'node:crypto';
import { concatBytes } from '@dstack-cloud/encoding';
import { secp256k1 } from '@noble/curves/secp256k1.js';
import type { K256Backend } from './backend.ts';

/** `prehash: false` because a digest is signed, not a message. */
const DIGEST = { prehash: false, lowS: true } as const;

/** In JavaScript, and OpenSSL for public keys: works everywhere. */
export const noble: K256Backend = {
  name: 'noble',
  publicKey(secret) {
    const ecdh = createECDH('secp256k1');
    ecdh.setPrivateKey(secret);
    return new Uint8Array(ecdh.getPublicKey(null, 'compressed'));
  },
  sign(digest, secret) {
    const signature = secp256k1.sign(digest, secret, { ...DIGEST, format: 'recovered' });
    // noble puts the recovery id first; the wire has it last.
    return concatBytes(signature.subarray(1), signature.subarray(0, 1));
  },
  recover(digest, signature) {
    const parsed = secp256k1.Signature.fromBytes(signature.subarray(0, 64), 'compact');
    return parsed.addRecoveryBit(signature[64]!).recoverPublicKey(digest).toBytes(true);
  },
  verify: (digest, signature, publicKey) =>
    secp256k1.verify(signature, digest, publicKey, { ...DIGEST, format: 'compact' }),
  isPublicKey(publicKey) {
    try {
      secp256k1.Point.fromBytes(publicKey).assertValidity();
      return true;
    } catch {
      return false;
    }
  },
};
