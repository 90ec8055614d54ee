import { closeSync, fstatSync, readFileSync } from 'node:fs';
import { openOwnFile } from '@dstack-cloud/files';
import { cloudflare } from '../dns/cloudflare.ts';
import type { DnsProvider } from '../dns/dns-provider.ts';
import { rfc2136 } from '../dns/rfc2136.ts';
import { webhook } from '../dns/webhook.ts';
import { CertbotError } from '../errors.ts';

const OTHERS = 0o077;
const MAX_SECRET = 4_096;

type Flags = Readonly<Record<string, unknown>>;

/** @throws CertbotError `bad-credentials` unless exactly one provider is named, with a secret that is only ours */
export function providerFromFlags(flags: Flags): DnsProvider {
  const of = (name: string): string => {
    const value = flags[name];
    if (typeof value !== 'string') throw new CertbotError('bad-credentials', `--${name} is needed`);
    return value;
  };
  const chosen = ['rfc2136', 'cloudflare-token-file', 'webhook-url'].filter(
    (name) => flags[name] !== undefined,
  );
  if (chosen.length !== 1)
    throw new CertbotError(
      'bad-credentials',
      'One of --rfc2136, --cloudflare-token-file, --webhook-url is needed',
    );
  if (chosen[0] === 'cloudflare-token-file')
    return cloudflare({ token: secretLine(of('cloudflare-token-file')) });
  if (chosen[0] === 'webhook-url') {
    const url = of('webhook-url');
    if (!/^(https:\/\/|http:\/\/127\.0\.0\.1(:|\/))/.test(url))
      throw new CertbotError('bad-credentials', '--webhook-url must begin with https://');
    return webhook({ url, token: secretLine(of('webhook-token-file')) });
  }
  const [, host, port] = /^([A-Za-z0-9.-]{1,255}):(\d{1,5})$/.exec(of('rfc2136')) ?? [];
  const secret = Buffer.from(secretLine(of('key-file')), 'base64');
  if (host === undefined || secret.length < 16)
    throw new CertbotError(
      'bad-credentials',
      '--rfc2136 is HOST:PORT, and --key-file holds base64 of at least 16 bytes',
    );
  const key = { name: of('key-name'), algorithm: 'hmac-sha256', secret: new Uint8Array(secret) } as const;
  return rfc2136({ host, port: Number(port), zone: of('zone'), key });
}

function secretLine(path: string): string {
  const file = openOwnFile(path, 'read');
  try {
    const { mode, size } = fstatSync(file);
    if ((mode & OTHERS) !== 0)
      throw new CertbotError('bad-credentials', `${path} may be read by others; chmod 600 it`);
    const text = size > MAX_SECRET ? '' : readFileSync(file, 'utf8').trim();
    if (/^[\x21-\x7e]+$/.test(text)) return text;
    throw new CertbotError('bad-credentials', `${path} does not hold one line of a secret`);
  } finally {
    closeSync(file);
  }
}
