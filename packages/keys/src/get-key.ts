import { createPrivateKey, type KeyObject } from 'node:crypto';
import { concatBytes, equalBytes, fromHex, toHex, utf8 } from '@dstack-cloud/encoding';
import { ed25519 } from '@noble/curves/ed25519.js';
import { issuedKeyMessage } from './app-keys.ts';
import { expectLength, KeysError } from './errors.ts';
import { hkdf } from './hkdf.ts';
import { k256PublicKey, recoverK256, signK256 } from './k256.ts';

const ED25519_PKCS8_PREFIX = fromHex('302e020100300506032b657004220420');

/** Key types of GetKey after normalisation. */
export type KeyAlgorithm = 'secp256k1' | 'ed25519';

export interface DerivedKey {
  readonly algorithm: KeyAlgorithm;
  /** 32 bytes: secp256k1 secret or Ed25519 seed. */
  readonly key: Uint8Array;
  /** 33 bytes (secp256k1, compressed) or 32 bytes (Ed25519). */
  readonly publicKey: Uint8Array;
  /** First link of the signature chain, 65 bytes. */
  readonly signature: Uint8Array;
}

/**
 * GetKey of the guest agent (docs/protocol/keys.md section 3.3). Path and purpose are used as they are; only the path
 * enters the key.
 * @param appRootKey `k256_key` of the application's keys, 32 bytes
 * @throws KeysError `Unsupported algorithm`
 */
export function getKey(appRootKey: Uint8Array, path: string, purpose: string, algorithm: string): DerivedKey {
  expectLength('App root key', appRootKey, 32);
  const kind = normaliseAlgorithm(algorithm);
  const key = hkdf(appRootKey, [path], 32);
  const publicKey = kind === 'ed25519' ? ed25519PublicKey(key) : k256PublicKey(key);
  return {
    algorithm: kind,
    key,
    publicKey,
    signature: signK256(claimMessage(purpose, publicKey), appRootKey),
  };
}

/** `k256` and the empty text stand for `secp256k1`. @throws KeysError `Unsupported algorithm` */
function normaliseAlgorithm(algorithm: string): KeyAlgorithm {
  if (algorithm === '' || algorithm === 'k256' || algorithm === 'secp256k1') return 'secp256k1';
  if (algorithm === 'ed25519') return 'ed25519';
  throw new KeysError('unsupported-algorithm', 'Unsupported algorithm');
}

/** The Ed25519 public key (32 bytes) of a seed, RFC 8032 section 5.1.5. OpenSSL's reader of keys takes twice as long. */
export function ed25519PublicKey(seed: Uint8Array): Uint8Array {
  expectLength('Ed25519 seed', seed, 32);
  return ed25519.getPublicKey(seed);
}

/** The Ed25519 key of a 32-byte seed for `crypto.sign`. */
export function ed25519PrivateKey(seed: Uint8Array): KeyObject {
  expectLength('Ed25519 seed', seed, 32);
  return createPrivateKey({
    key: Buffer.from(concatBytes(ED25519_PKCS8_PREFIX, seed)),
    format: 'der',
    type: 'pkcs8',
  });
}

export interface SignatureChainClaim {
  /** The key in question: 33 or 32 bytes, as GetKey's caller derived it. */
  readonly publicKey: Uint8Array;
  readonly purpose: string;
  /** `[by the app root key, by the KMS root key]`, 65 bytes each. */
  readonly signatureChain: readonly Uint8Array[];
  readonly appId: Uint8Array;
  /** k256 root public key of the KMS that is trusted, compressed, 33 bytes. */
  readonly kmsPublicKey: Uint8Array;
}

/**
 * Checks that the trusted KMS vouches for a key of this application.
 * @returns the compressed public key of the application's root key
 * @throws KeysError when the chain is not two valid signatures that end in `kmsPublicKey`
 */
export function verifySignatureChain(claim: SignatureChainClaim): Uint8Array {
  const [byApp, byKms] = claim.signatureChain;
  if (claim.signatureChain.length !== 2 || !byApp || !byKms) {
    throw new KeysError(
      'invalid-signature',
      `Expected a chain of 2 signatures, found ${claim.signatureChain.length}`,
    );
  }
  expectLength('app_id', claim.appId, 20);
  expectLength('KMS public key', claim.kmsPublicKey, 33);
  const appPublicKey = recoverK256(claimMessage(claim.purpose, claim.publicKey), byApp);
  const signer = recoverK256(issuedKeyMessage(claim.appId, appPublicKey), byKms);
  if (!equalBytes(signer, claim.kmsPublicKey)) {
    throw new KeysError(
      'untrusted-signer',
      `The chain was signed by ${toHex(signer)}, expected the KMS key ${toHex(claim.kmsPublicKey)}`,
    );
  }
  return appPublicKey;
}

function claimMessage(purpose: string, publicKey: Uint8Array): Uint8Array {
  return utf8(`${purpose}:${toHex(publicKey)}`);
}
