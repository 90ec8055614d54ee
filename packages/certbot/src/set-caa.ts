import { type CaaRecord, caaChanges, wantedCaa } from './caa.ts';
import type { DnsProvider } from './dns/dns-provider.ts';
import { CertbotError } from './errors.ts';

/**
 * Lets the account alone order for a domain; other tags stay, and without a difference nothing is written. It is looked at
 * again afterwards.
 * @param issuer name of the authority in CAA records, such as `letsencrypt.org`
 * @returns whether something was changed
 * @throws CertbotError `dns-failed`
 */
export async function setCaa(
  dns: DnsProvider,
  domain: string,
  issuer: string,
  accountUri: string,
): Promise<boolean> {
  const wanted = wantedCaa(issuer, accountUri);
  const missing = async (): Promise<ReturnType<typeof caaChanges>> =>
    caaChanges(await dns.listCaa(domain), wanted);
  const { add, remove } = await missing();
  if (add.length + remove.length === 0) return false;
  await dns.changeCaa(domain, add, remove);
  const left = await missing();
  if (left.add.length + left.remove.length === 0) return true;
  const shown = (records: readonly CaaRecord[]): string =>
    records.map(({ tag, value }) => `${tag} "${value}"`).join(', ') || 'none';
  throw new CertbotError(
    'dns-failed',
    `The CAA records of ${domain} are not what was written: missing ${shown(left.add)}; too many ${shown(left.remove)}`,
  );
}
