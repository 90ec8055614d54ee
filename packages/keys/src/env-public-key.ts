import { ByteWriter, utf8 } from '@dstack-cloud/encoding';
import { KeysError } from './errors.ts';
import { recoverK256, signK256 } from './k256.ts';

const PREFIX = utf8('dstack-env-encrypt-pubkey:');
const PREFIX_V2 = utf8('dstack-env-encrypt-pubkey-v2:');
const MAX_U32 = 0xffff_ffff;
const MAX_FUTURE_SECONDS = 60;
const DEFAULT_MAX_AGE_SECONDS = 300;

/** Which of an application's environment keys one is. */
export interface EnvKeyName {
  readonly epoch: number;
  /** Of the root that it comes from, 20 bytes. */
  readonly rootId: Uint8Array;
  /** Whether the application's machines get it at present: an older one may have leaked. */
  readonly isPresent: boolean;
}

/**
 * Signs an environment public key with the KMS root: 65 bytes (docs/protocol/keys.md section 5.1).
 * @param timestamp Unix seconds; with it the signature is `signature_v1`, without it the legacy one
 */
export function signEnvPublicKey(
  k256Root: Uint8Array,
  appId: Uint8Array,
  publicKey: Uint8Array,
  timestamp?: bigint | number,
): Uint8Array {
  const time = timestamp === undefined ? {} : { timestamp };
  return signK256(envPublicKeyMessage({ appId, publicKey, ...time }), k256Root);
}

/** The same with the key's name, which the other signatures do not say: `signature_v2`. */
export function signNamedEnvPublicKey(
  k256Root: Uint8Array,
  key: { readonly appId: Uint8Array; readonly publicKey: Uint8Array; readonly timestamp: bigint | number },
  name: EnvKeyName,
): Uint8Array {
  return signK256(envPublicKeyMessage({ ...key, name }), k256Root);
}

export interface EnvPublicKeyClaim {
  readonly appId: Uint8Array;
  /** X25519, 32 bytes. */
  readonly publicKey: Uint8Array;
  /** 65 bytes. */
  readonly signature: Uint8Array;
  /** Unix seconds, for `signature_v1` and `signature_v2`; left out for the legacy signature. */
  readonly timestamp?: bigint | number;
  /** For `signature_v2`. */
  readonly name?: EnvKeyName;
  /** The present, Unix seconds. */
  readonly now?: number;
  readonly maxAgeSeconds?: number;
}

/**
 * The compressed key (33 bytes) that signed an environment public key, or null when the signature gives none or its
 * time is too old (default 300 s) or more than 60 s ahead. The caller compares the key with a trusted one.
 */
export function verifyEnvPublicKey(claim: EnvPublicKeyClaim): Uint8Array | null {
  const { signature, timestamp } = claim;
  if (timestamp !== undefined) {
    const age = (claim.now ?? Math.floor(Date.now() / 1000)) - Number(timestamp);
    const maxAge = claim.maxAgeSeconds ?? DEFAULT_MAX_AGE_SECONDS;
    // Written so that NaN fails.
    if (!(age <= maxAge && age >= -MAX_FUTURE_SECONDS)) return null;
  }
  try {
    return recoverK256(envPublicKeyMessage(claim), signature);
  } catch (error) {
    if (error instanceof KeysError) return null;
    throw error;
  }
}

function envPublicKeyMessage({
  appId,
  publicKey,
  timestamp,
  name,
}: Pick<EnvPublicKeyClaim, 'appId' | 'publicKey' | 'timestamp' | 'name'>): Uint8Array {
  if (appId.length !== 20 || publicKey.length !== 32) {
    throw new KeysError('invalid-length', 'app_id must be 20 bytes and the public key 32 bytes');
  }
  const writer = new ByteWriter().bytes(name === undefined ? PREFIX : PREFIX_V2).bytes(appId);
  if (timestamp !== undefined) writer.u64be(BigInt(timestamp));
  if (name !== undefined) {
    const { epoch, rootId, isPresent } = name;
    if (
      timestamp === undefined ||
      rootId.length !== 20 ||
      !Number.isInteger(epoch) ||
      epoch < 0 ||
      epoch > MAX_U32
    ) {
      throw new KeysError(
        'invalid-length',
        'A named key has a time, an epoch of 32 bits and a root id of 20 bytes',
      );
    }
    writer
      .u32be(epoch)
      .bytes(rootId)
      .u8(isPresent ? 1 : 0);
  }
  return writer.bytes(publicKey).finish();
}
