import { toHex, utf8 } from '@dstack-cloud/encoding';

/** Where an application's keys come from. */
export type KeyProviderKind = 'none' | 'local' | 'kms' | 'tpm';

/** The name of a provider inside the key-provider event: `local` is written `local-sgx`. */
export const KEY_PROVIDER_NAME: Readonly<Record<KeyProviderKind, string>> = {
  none: 'none',
  local: 'local-sgx',
  kms: 'kms',
  tpm: 'tpm',
};

/**
 * Payload of the `key-provider` event: compact JSON, members in the order name, id.
 *
 * @param id SPKI DER of the KMS root for kms, MRENCLAVE for local, SPKI DER of the app key for tpm, empty for none
 */
export function keyProviderInfo(kind: KeyProviderKind, id: Uint8Array): Uint8Array {
  return utf8(JSON.stringify({ name: KEY_PROVIDER_NAME[kind], id: toHex(id) }));
}
