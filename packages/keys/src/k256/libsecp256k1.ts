import { createRequire } from 'node:module';
import { equalBytes, fromHex } from '@dstack-cloud/encoding';
import type { K256Backend } from './backend.ts';
import { noble } from './noble.ts';
import { isBelowOrder } from './scalar-range.ts';

/** The part of npm `secp256k1` that is used. */
interface Binding {
  publicKeyCreate(secret: Uint8Array, compressed: boolean): Uint8Array;
  publicKeyVerify(publicKey: Uint8Array): boolean;
  ecdsaSign(digest: Uint8Array, secret: Uint8Array): { signature: Uint8Array; recid: number };
  ecdsaRecover(signature: Uint8Array, id: number, digest: Uint8Array, compressed: boolean): Uint8Array;
  ecdsaVerify(signature: Uint8Array, digest: Uint8Array, publicKey: Uint8Array): boolean;
}

/** Bitcoin's published RFC 6979 vector: secret 1, SHA-256 of `Satoshi Nakamoto`. */
const VECTOR = {
  digest: fromHex('a0dc65ffca799873cbea0ac274015b9526505daaaed385155425f7337704883e'),
  signature: fromHex(
    '934b1ea10a4b3c1757e2b0c017d0b6143ce3c9a7e6a4a49860d7a6ab210ee3d8' +
      '2442ce9d2b916064108014783e923ec36b49743e2ffa1c4496f01a512aafd9e5',
  ),
};

/**
 * libsecp256k1 through the prebuilt binary of npm `secp256k1`, an optional dependency: undefined where there is no
 * binary that works. Its file `bindings` is asked for by name, because the package's main module falls back to
 * another library silently.
 */
export function libsecp256k1(): K256Backend | undefined {
  try {
    const binding = createRequire(import.meta.url)('secp256k1/bindings') as Binding;
    const secret = new Uint8Array(32);
    secret[31] = 1;
    const { signature } = binding.ecdsaSign(VECTOR.digest, secret);
    return equalBytes(signature, VECTOR.signature) ? wrap(binding) : undefined;
  } catch {
    return undefined;
  }
}

function wrap(binding: Binding): K256Backend {
  return {
    name: 'libsecp256k1',
    publicKey: (secret) => binding.publicKeyCreate(secret, true),
    sign(digest, secret) {
      // The nonce of libsecp256k1 takes the digest as it is, that of RFC 6979 reduces it first: the same below the order.
      if (!isBelowOrder(digest)) return noble.sign(digest, secret);
      const { signature, recid } = binding.ecdsaSign(digest, secret);
      const result = new Uint8Array(65);
      result.set(signature);
      result[64] = recid;
      return result;
    },
    recover: (digest, signature) =>
      binding.ecdsaRecover(signature.subarray(0, 64), signature[64]!, digest, true),
    verify: (digest, signature, publicKey) => binding.ecdsaVerify(signature, digest, publicKey),
    isPublicKey: (publicKey) =>
      (publicKey.length === 33 || (publicKey.length === 65 && publicKey[0] === 4)) &&
      binding.publicKeyVerify(publicKey),
  };
}
