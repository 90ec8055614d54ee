import type { KmsConfig } from './kms-config.ts';

/** Keys whose values are never shown. */
export const SECRET_KEYS: ReadonlySet<string> = new Set(['token', 'auth_token', 'admin_token_hash']);

/** Keys of addresses whose paths, queries and user names may be API keys, also where they cannot be parsed. */
export const ADDRESS_KEYS: ReadonlySet<string> = new Set([
  'rpc_urls',
  'light_client_url',
  'url',
  'urls',
  'pccs_url',
  'download_url',
  'pccs',
  'amd_kds',
]);

const SCHEMES = /^(https?|wss?):$/;

/** The effective configuration as JSON, without secrets: tokens hidden, backend URLs cut to scheme and host. */
export function printConfig(config: KmsConfig): string {
  return JSON.stringify(
    config,
    (key, value: unknown) => {
      if (SECRET_KEYS.has(key) && value !== '') return '<hidden>';
      if (ADDRESS_KEYS.has(key)) return shownAddresses(value);
      return typeof value === 'string' && URL.canParse(value) ? withoutSecrets(value) : value;
    },
    2,
  );
}

/** One address or several; what is no URL is not shown, since it may be a key all the same. */
function shownAddresses(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(shownAddresses);
  if (typeof value !== 'string' || value === '') return value;
  const isAddress = URL.canParse(value) && SCHEMES.test(new URL(value).protocol);
  return isAddress ? withoutSecrets(value) : '<not a URL>';
}

/** Paths, queries and user names of service URLs may be API keys. */
function withoutSecrets(text: string): string {
  const url = new URL(text);
  // The address of OS images has no password: the configuration refuses one.
  if (text.includes('{OS_IMAGE_HASH}')) return text;
  return SCHEMES.test(url.protocol) ? url.origin : text;
}
