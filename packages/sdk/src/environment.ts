import { toHex } from '@dstack-cloud/encoding';
import { encryptEnv, verifyEnvPublicKey } from '@dstack-cloud/keys';
import { identityBytes } from './verify-evidence.ts';

/** A variable of an application's environment. */
export interface EnvVar {
  readonly key: string;
  readonly value: string;
}

/**
 * Encrypts an environment for an application.
 *
 * @param publicKey of `GetAppEnvEncryptPubKey`, hex; its signature must have been verified (`verifyEnvEncryptPublicKey`)
 * @returns hex
 */
export function encryptEnvVars(variables: readonly EnvVar[], publicKey: string): string {
  return toHex(encryptEnv(variables, identityBytes('publicKey', publicKey)));
}

/**
 * Who signed an environment key: compare it with the root key of the key service that is trusted.
 *
 * @param timestamp Unix seconds of `signature_v1`; without it the older signature, which never expires, is meant
 * @returns `0x` and the compressed public key; null when there is no such signature, or it is older than `maxAgeSeconds`
 */
export function verifyEnvEncryptPublicKey(
  publicKey: Uint8Array,
  signature: Uint8Array,
  appId: string,
  timestamp?: bigint | number,
  options: { readonly maxAgeSeconds?: number } = {},
): string | null {
  const signer = verifyEnvPublicKey({
    appId: identityBytes('appId', appId),
    publicKey,
    signature,
    ...(timestamp === undefined ? {} : { timestamp }),
    ...options,
  });
  return signer === null ? null : `0x${toHex(signer)}`;
}
