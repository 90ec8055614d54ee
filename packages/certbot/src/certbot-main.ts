#!/usr/bin/env node
/** dstack-certbot: certificates by ACME with DNS-01 into a folder. */
import { parseArgs } from 'node:util';
import { printableMessage } from '@dstack-cloud/encoding';
import { surviveClosedOutput } from '@dstack-cloud/files';
import { newAccount } from './account.ts';
import { providerFromFlags } from './command/provider-from-flags.ts';
import { openWorkFolder } from './command/work-folder.ts';
import { caaIssuerOf, issueCertificate, registerAccount } from './issue-certificate.ts';
import { setCaa } from './set-caa.ts';

const USAGE = `dstack-certbot: certificates by ACME with DNS-01

Usage:
  dstack-certbot init    --workdir DIR --acme-url URL
  dstack-certbot renew   --workdir DIR --acme-url URL --domain NAME PROVIDER [--force]
  dstack-certbot set-caa --workdir DIR --acme-url URL --domain NAME PROVIDER [--caa-issuer NAME]

Commands:
  init      make the account, if there is none: credentials.json
  renew     order a certificate if there is none, it ends within --days, or its names are others: live/cert.pem, live/key.pem
  set-caa   let the account alone order for the domains

Options:
      --workdir DIR         what is kept; 0700, and nobody else's
      --acme-url URL        directory of the authority
      --domain NAME         may be repeated; *.NAME is a wildcard
      --days N              renew so long before the end (10)
      --force               renew a young certificate too
      --caa-issuer NAME     the authority's name in CAA records, where its directory does not say it
  -h, --help                print this

PROVIDER is one of:
      --rfc2136 HOST:PORT --zone ZONE --key-name NAME --key-file FILE
      --cloudflare-token-file FILE
      --webhook-url URL --webhook-token-file FILE

Example:
  dstack-certbot renew --workdir /etc/certbot --acme-url https://acme-v02.api.letsencrypt.org/directory \\
    --domain '*.apps.example.com' --cloudflare-token-file token
`;

const DAY = 86_400;

async function main(): Promise<void> {
  const text = { type: 'string' } as const;
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      workdir: text,
      'acme-url': text,
      domain: { type: 'string', multiple: true },
      days: text,
      force: { type: 'boolean' },
      'caa-issuer': text,
      rfc2136: text,
      zone: text,
      'key-name': text,
      'key-file': text,
      'cloudflare-token-file': text,
      'webhook-url': text,
      'webhook-token-file': text,
      help: { type: 'boolean', short: 'h' },
    },
  });
  if (values.help) return void process.stdout.write(USAGE);
  const [command = ''] = positionals;
  const { workdir, 'acme-url': directoryUrl, domain: names = [] } = values;
  const days = Number(values.days ?? '10');
  if (!['init', 'renew', 'set-caa'].includes(command) || positionals.length !== 1)
    throw new UsageError('one of init, renew, set-caa is needed');
  if (workdir === undefined || directoryUrl === undefined)
    throw new UsageError('--workdir and --acme-url are needed');
  if (!directoryUrl.startsWith('https://')) throw new UsageError('--acme-url must begin with https://');
  if (command !== 'init' && names.length === 0) throw new UsageError('--domain is needed');
  if (!(days >= 0 && days <= 3_650)) throw new UsageError('--days is a number of days');
  const dns = command === 'init' ? undefined : providerFromFlags(values);
  const folder = openWorkFolder(workdir);
  const say = (line: string): void => void process.stdout.write(`${printableMessage(line)}\n`);

  const known = await folder.account(directoryUrl);
  const account = known ?? (await registerAccount(newAccount(directoryUrl)));
  // Before anything names it: a CAA record for an account whose key is lost lets nobody order.
  if (known === undefined) await folder.keepAccount(account);
  if (dns === undefined) return say(`The account is ${account.uri}`);
  if (command === 'set-caa') {
    const issuer = values['caa-issuer'] ?? (await caaIssuerOf(directoryUrl));
    for (const base of [...new Set(names.map((name) => name.replace(/^\*\./, '')))].sort())
      say(
        `${base}: ${(await setCaa(dns, base, issuer, account.uri)) ? 'the CAA records were set' : 'unchanged'}`,
      );
    return;
  }
  const until = Math.floor(Date.now() / 1000) + days * DAY;
  if (values.force !== true && (await folder.isGood(names, until)))
    return say('The certificate is good; nothing was ordered');
  const issued = await issueCertificate({ account, names, dns, nameServers: [] });
  const place = await folder.keep(issued);
  say(`A new certificate is in ${place}`);
}

class UsageError extends Error {}

surviveClosedOutput();
main().catch((error: unknown) => {
  const message = error instanceof Error ? error.message : String(error);
  process.stderr.write(`dstack-certbot: ${printableMessage(message)}\n`);
  process.exitCode = error instanceof UsageError ? 2 : 1;
});
