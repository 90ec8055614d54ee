import { createPrivateKey, generateKeyPairSync } from 'node:crypto';
import { z } from 'zod';
import { CertbotError } from './errors.ts';

/** An account at a certificate authority. */
export type AcmeAccount = {
  readonly directoryUrl: string;
  /** Its URI; absent before the authority knows it. */
  readonly uri?: string;
  /** PEM PKCS#8, P-256. */
  readonly key: string;
};

const schema = z.object({
  account_id: z.url(),
  acme_url: z.string().default(''),
  credentials: z.object({
    id: z.url(),
    key_pkcs8: z.string().regex(/^[A-Za-z0-9_-]+$/),
    directory: z.url().optional(),
  }),
});

/** A key of its own for a new account. */
export function newAccount(directoryUrl: string): AcmeAccount {
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  return { directoryUrl, key: privateKey.export({ format: 'pem', type: 'pkcs8' }) as string };
}

/** `credentials.json` as the original writes it. */
export function accountToJson({ directoryUrl, uri, key }: AcmeAccount & { readonly uri: string }): string {
  const der = createPrivateKey(key).export({ format: 'der', type: 'pkcs8' });
  return JSON.stringify({
    account_id: uri,
    acme_url: directoryUrl,
    credentials: { id: uri, key_pkcs8: der.toString('base64url'), directory: directoryUrl },
  });
}

/**
 * Reads `credentials.json`.
 * @throws CertbotError `bad-credentials` for a damaged file, and for an account at another authority: a new one must not
 * take its place in silence, since CAA records and evidence name the old one
 */
export function accountFromJson(text: string, directoryUrl: string): AcmeAccount & { readonly uri: string } {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (cause) {
    throw new CertbotError('bad-credentials', 'The credentials are not JSON', { cause });
  }
  const parsed = schema.safeParse(json);
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    throw new CertbotError('bad-credentials', `The credentials: ${issue?.path.join('.')}: ${issue?.message}`);
  }
  const { account_id: uri, acme_url, credentials } = parsed.data;
  const of = acme_url || credentials.directory || '';
  if (of !== '' && of !== directoryUrl)
    throw new CertbotError(
      'bad-credentials',
      `The account is one at ${of}, not at ${directoryUrl}: change the address back, or rotate the account`,
    );
  if (credentials.id !== uri) throw new CertbotError('bad-credentials', 'The credentials name two accounts');
  try {
    const key = createPrivateKey({
      key: Buffer.from(credentials.key_pkcs8, 'base64url'),
      format: 'der',
      type: 'pkcs8',
    });
    return { directoryUrl, uri, key: key.export({ format: 'pem', type: 'pkcs8' }) as string };
  } catch (cause) {
    throw new CertbotError('bad-credentials', 'The key of the account cannot be read', { cause });
  }
}
