import type { KmsConfig } from './kms-config.ts';

/** Keys whose values are never shown. */
export const SECRET_KEYS: ReadonlySet<string> = new Set(['token', 'auth_token', 'admin_token_hash']);

/** The effective configuration as JSON, without secrets: tokens hidden, backend URLs cut to scheme and host. */
export function printConfig(config: KmsConfig): string {
  return JSON.stringify(
    config,
    (key, value: unknown) => {
      if (SECRET_KEYS.has(key) && value !== '') return '<hidden>';
      return typeof value === 'string' && URL.canParse(value) ? withoutSecrets(value) : value;
    },
    2,
  );
}

/** Paths, queries and user names of service URLs may be API keys. */
function withoutSecrets(text: string): string {
  const url = new URL(text);
  if (!/^(https?|wss?):$/.test(url.protocol) || text.includes('{OS_IMAGE_HASH}')) return text;
  return url.origin;
}
