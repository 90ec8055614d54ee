import { createPrivateKey, generateKeyPairSync, X509Certificate } from 'node:crypto';
import { Resolver } from 'node:dns/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import acme from 'acme-client';
import type { AcmeAccount } from './account.ts';
import type { DnsProvider } from './dns/dns-provider.ts';
import { CertbotError } from './errors.ts';

export type IssueOptions = {
  readonly account: AcmeAccount;
  /** Names of the certificate, such as `*.apps.example.com`. */
  readonly names: readonly string[];
  readonly dns: DnsProvider;
  /** `address:port` of name servers where the records must be seen before the authority looks; none to not wait. */
  readonly nameServers: readonly string[];
  readonly txtTtlSeconds?: number;
  /** How long the records may take to be seen; then the authority is asked all the same. */
  readonly maxDnsWaitMs?: number;
  readonly signal?: AbortSignal;
  /** Told the key (DER SubjectPublicKeyInfo) before the authority sees it: whoever keeps a history misses none. */
  readonly onKey?: (spki: Uint8Array) => Promise<void>;
};

export type Issued = {
  /** PEM, leaf first. */
  readonly certChain: string;
  /** PEM PKCS#8 of a new P-256 key: one key, one certificate, one attestation. */
  readonly key: string;
  /** DER SubjectPublicKeyInfo. */
  readonly spki: Uint8Array;
  /** Unix seconds. */
  readonly notAfter: number;
};

const TXT_TTL = 60;
const MAX_DNS_WAIT_MS = 300_000;
const FIRST_LOOK_MS = 250;
const LONGEST_PAUSE_MS = 32_000;
const DIRECTORY_MS = 20_000;
const MAX_DIRECTORY = 1 << 20;

/**
 * The account's URI; the authority learns of the account if it does not know it.
 * @throws CertbotError `acme-failed`
 */
export async function registerAccount(account: AcmeAccount): Promise<AcmeAccount & { readonly uri: string }> {
  const client = clientOf(account);
  try {
    await client.createAccount({ termsOfServiceAgreed: true });
    return { ...account, uri: client.getAccountUrl() };
  } catch (cause) {
    throw failed(account, cause);
  }
}

/**
 * The name by which an authority calls itself in CAA records (RFC 8555 section 7.1.1).
 * @throws CertbotError `acme-failed` when its directory says none
 */
export async function caaIssuerOf(directoryUrl: string): Promise<string> {
  const meta = (directory: unknown): unknown =>
    (directory as { meta?: { caaIdentities?: unknown } }).meta?.caaIdentities;
  let names: unknown;
  try {
    const { data } = await acme.axios.get(directoryUrl, {
      timeout: DIRECTORY_MS,
      maxContentLength: MAX_DIRECTORY,
    });
    names = meta(data ?? {});
  } catch (cause) {
    throw failed({ directoryUrl }, cause);
  }
  const [name] = Array.isArray(names) ? (names as unknown[]) : [];
  if (typeof name === 'string' && /^[a-z0-9.-]{1,253}$/.test(name)) return name;
  throw new CertbotError('acme-failed', `${directoryUrl} does not say its name in CAA records; configure it`);
}

/**
 * Orders a certificate by DNS-01 (RFC 8555 sections 7.4 and 8.4) and checks it before it is returned. The records are
 * removed again, whatever happens, and only those that were added.
 * @throws CertbotError `acme-failed`, `dns-failed`, `bad-certificate`
 */
export async function issueCertificate(options: IssueOptions): Promise<Issued> {
  const { account, names, dns, signal } = options;
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const key = privateKey.export({ format: 'pem', type: 'pkcs8' }) as string;
  const [, csr] = await acme.crypto.createCsr({ altNames: [...names] }, key);
  const spki = new Uint8Array(publicKey.export({ format: 'der', type: 'spki' }));
  const client = clientOf(account);
  const undo: (() => Promise<void>)[] = [];
  let certChain: string;
  try {
    const order = await client.createOrder({ identifiers: names.map((value) => ({ type: 'dns', value })) });
    const pending: acme.Authorization['challenges'] = [];
    const seen: { name: string; value: string }[] = [];
    for (const authorization of await client.getAuthorizations(order)) {
      if (authorization.status === 'valid') continue;
      const challenge = authorization.challenges.find(({ type }) => type === 'dns-01');
      if (challenge === undefined)
        throw new Error(`no dns-01 challenge for ${authorization.identifier.value}`);
      const name = `_acme-challenge.${authorization.identifier.value.replace(/^\*\./, '')}`;
      const value = await client.getChallengeKeyAuthorization(challenge);
      undo.push(await dns.addTxt(name, value, options.txtTtlSeconds ?? TXT_TTL));
      seen.push({ name, value });
      pending.push(challenge);
    }
    await waitForRecords(seen, options);
    for (const challenge of pending) {
      await client.completeChallenge(challenge);
      await client.waitForValidStatus(challenge);
    }
    signal?.throwIfAborted();
    await options.onKey?.(spki);
    const finalized = await client.finalizeOrder(order, csr);
    certChain = await client.getCertificate(finalized);
  } catch (cause) {
    throw cause instanceof CertbotError ? cause : failed(account, cause);
  } finally {
    await Promise.allSettled(undo.map((remove) => remove()));
  }
  return { certChain, key, spki, notAfter: checked(certChain, key, names) };
}

/** Until each name server shows each value, or for as long as is allowed. */
async function waitForRecords(
  records: readonly { readonly name: string; readonly value: string }[],
  { nameServers, maxDnsWaitMs = MAX_DNS_WAIT_MS, signal }: IssueOptions,
): Promise<void> {
  const until = performance.now() + maxDnsWaitMs;
  const resolvers = nameServers.map((server) => {
    const resolver = new Resolver({ timeout: 2_000, tries: 1 });
    resolver.setServers([server]);
    return resolver;
  });
  const shows = async (
    resolver: Resolver,
    { name, value }: { name: string; value: string },
  ): Promise<boolean> => {
    const found = await resolver.resolveTxt(name).catch(() => []);
    return found.some((strings) => strings.join('') === value);
  };
  for (let pause = FIRST_LOOK_MS; ; pause = Math.min(2 * pause, LONGEST_PAUSE_MS)) {
    const all = await Promise.all(
      resolvers.flatMap((resolver) => records.map((record) => shows(resolver, record))),
    );
    if (all.every(Boolean) || performance.now() + pause > until) return;
    await sleep(pause, undefined, { signal });
  }
}

/** @returns when the certificate ends, Unix seconds */
function checked(certChain: string, key: string, names: readonly string[]): number {
  const wrong = (why: string): CertbotError =>
    new CertbotError('bad-certificate', `The authority issued a certificate that ${why}`);
  const certificate = new X509Certificate(certChain);
  if (!certificate.checkPrivateKey(createPrivateKey(key))) throw wrong('is for another key');
  const now = Date.now();
  if (now < Date.parse(certificate.validFrom) || now > Date.parse(certificate.validTo))
    throw wrong('is not in force');
  for (const name of names) {
    const host = name.replace(/^\*\./, 'any.');
    if (certificate.checkHost(host) === undefined) throw wrong(`does not cover ${name}`);
  }
  return Math.floor(Date.parse(certificate.validTo) / 1000);
}

function clientOf({ directoryUrl, key, uri }: AcmeAccount): acme.Client {
  return new acme.Client({
    directoryUrl,
    accountKey: key,
    ...(uri !== undefined && { accountUrl: uri }),
    backoffMin: 500,
    backoffMax: 10_000,
    backoffAttempts: 30,
  });
}

function failed({ directoryUrl }: Pick<AcmeAccount, 'directoryUrl'>, cause: unknown): CertbotError {
  const why = cause instanceof Error ? cause.message : String(cause);
  return new CertbotError('acme-failed', `No certificate from ${directoryUrl}: ${why.slice(0, 500)}`, {
    cause,
  });
}
