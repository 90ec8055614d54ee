import { fromHex, toHex } from '@dstack-cloud/encoding';
import { z } from 'zod';
import { parseDocument } from './parse-document.ts';

/** Where the keys of an AppKeysFile came from, with what the agent needs to have certificates signed. */
export type AppKeysProvider =
  | { readonly kind: 'none'; readonly key: string }
  | { readonly kind: 'local'; readonly key: string; readonly mr: Uint8Array }
  | { readonly kind: 'tpm'; readonly key: string; readonly pubkey: Uint8Array }
  | {
      readonly kind: 'kms';
      /** Base URL with `/prpc`. */
      readonly url: string;
      /** SPKI DER of the KMS root CA. */
      readonly pubkey: Uint8Array;
      readonly tmpCaKey: string;
      readonly tmpCaCert: string;
    };

/** `.appkeys.json`. Secret. */
export interface AppKeysFile {
  /** 32 bytes. */
  readonly diskCryptKey: Uint8Array;
  /** 32 bytes, or empty when there is no provider that encrypts environments. */
  readonly envCryptKey: Uint8Array;
  /** 32 bytes: the app root key. */
  readonly k256Key: Uint8Array;
  /** 65 bytes, or empty. */
  readonly k256Signature: Uint8Array;
  /** `any` disables gateway authentication; empty = no gateway allowed. */
  readonly gatewayAppId: string;
  /** PEM. */
  readonly caCert: string;
  readonly keyProvider: AppKeysProvider;
}

const hex = z.string().regex(/^(?:[0-9a-fA-F]{2})*$/, 'must be hex without 0x');
const sized = (...lengths: number[]) =>
  hex.refine((text) => lengths.includes(text.length / 2), `must be ${lengths.join(' or ')} bytes of hex`);

const provider = z.union([
  z.strictObject({ None: z.object({ key: z.string() }) }),
  z.strictObject({ Local: z.object({ key: z.string(), mr: hex }) }),
  z.strictObject({ Tpm: z.object({ key: z.string(), pubkey: hex }) }),
  z.strictObject({
    Kms: z.object({ url: z.string(), pubkey: hex, tmp_ca_key: z.string(), tmp_ca_cert: z.string() }),
  }),
]);

const schema = z.object({
  disk_crypt_key: sized(32),
  env_crypt_key: sized(0, 32).default(''),
  k256_key: sized(32),
  k256_signature: sized(0, 65),
  gateway_app_id: z.string(),
  ca_cert: z.string(),
  key_provider: provider,
});

const bytes = (text: string) => fromHex(text.toLowerCase());

/**
 * Reads `.appkeys.json`.
 *
 * @throws AppError `app-keys-invalid`; the text never holds a key
 */
export function parseAppKeys(source: Uint8Array | string): AppKeysFile {
  const keys = parseDocument(source, schema, 'app-keys-invalid', '.appkeys.json');
  return {
    diskCryptKey: bytes(keys.disk_crypt_key),
    envCryptKey: bytes(keys.env_crypt_key),
    k256Key: bytes(keys.k256_key),
    k256Signature: bytes(keys.k256_signature),
    gatewayAppId: keys.gateway_app_id,
    caCert: keys.ca_cert,
    keyProvider: readProvider(keys.key_provider),
  };
}

function readProvider(value: z.infer<typeof provider>): AppKeysProvider {
  if ('None' in value) return { kind: 'none', key: value.None.key };
  if ('Local' in value) return { kind: 'local', key: value.Local.key, mr: bytes(value.Local.mr) };
  if ('Tpm' in value) return { kind: 'tpm', key: value.Tpm.key, pubkey: bytes(value.Tpm.pubkey) };
  const { url, pubkey, tmp_ca_key, tmp_ca_cert } = value.Kms;
  return { kind: 'kms', url, pubkey: bytes(pubkey), tmpCaKey: tmp_ca_key, tmpCaCert: tmp_ca_cert };
}

/** Text of `.appkeys.json`; secret, write it with mode 0600. */
export function serializeAppKeys(keys: AppKeysFile): string {
  const document = {
    disk_crypt_key: toHex(keys.diskCryptKey),
    env_crypt_key: toHex(keys.envCryptKey),
    k256_key: toHex(keys.k256Key),
    k256_signature: toHex(keys.k256Signature),
    gateway_app_id: keys.gatewayAppId,
    ca_cert: keys.caCert,
    key_provider: writeProvider(keys.keyProvider),
  };
  return `${JSON.stringify(document, null, 2)}\n`;
}

function writeProvider(value: AppKeysProvider): z.infer<typeof provider> {
  switch (value.kind) {
    case 'none':
      return { None: { key: value.key } };
    case 'local':
      return { Local: { key: value.key, mr: toHex(value.mr) } };
    case 'tpm':
      return { Tpm: { key: value.key, pubkey: toHex(value.pubkey) } };
    case 'kms':
      return {
        Kms: {
          url: value.url,
          pubkey: toHex(value.pubkey),
          tmp_ca_key: value.tmpCaKey,
          tmp_ca_cert: value.tmpCaCert,
        },
      };
  }
}
