import { createHash } from 'node:crypto';
import {
  type AcmeAccount,
  accountFromJson,
  accountToJson,
  certReportData,
  type DnsProvider,
  type Issued,
  issueCertificate,
  newAccount,
  registerAccount,
  setCaa,
} from '@dstack-cloud/certbot';
import { fromHex, toHex } from '@dstack-cloud/encoding';
import { z } from 'zod';
import { GatewayError } from '../errors.ts';
import type { CertificateStore } from '../proxy/certificate-store.ts';
import type { Entry, Held, StateStore } from '../state/state-store.ts';
import { watchRecords } from '../state/watch-records.ts';

/** The evidence of one statement: JSON of what the guest agent answered. */
export type KeyEvidence = { readonly quote: string; readonly attestation: string };

/** Has the TEE quote 64 bytes; undefined where there is none. */
export type Attester = (reportData: Uint8Array) => Promise<KeyEvidence | undefined>;

/** What may be known of the gateway's certificates, and proved. */
export type AcmeInfo = {
  readonly accountUri: string;
  readonly accountEvidence: KeyEvidence | undefined;
  /** Every key for which a certificate was ever issued, oldest first. */
  readonly keys: readonly { readonly spki: Uint8Array; readonly evidence: KeyEvidence | undefined }[];
  /** PEM. */
  readonly activeCertificate: string;
};

export type CertificateKeeperOptions = {
  readonly domain: string;
  readonly directoryUrl: string;
  readonly store: StateStore;
  readonly certificates: CertificateStore;
  readonly dns: DnsProvider;
  readonly nameServers: readonly string[];
  readonly maxDnsWaitMs: number;
  readonly txtTtlSeconds: number;
  /** A certificate that ends sooner is renewed. */
  readonly renewBeforeSeconds: number;
  readonly attest: Attester;
  /** Name of the authority in CAA records. */
  readonly caaIssuer: () => Promise<string>;
  /** Unix seconds. */
  readonly now: () => number;
  /** For tests. */
  readonly issue?: typeof issueCertificate;
  readonly register?: typeof registerAccount;
};

const ACCOUNT = 'acme/account';
const evidence = z.object({ quote: z.string(), attestation: z.string() });
const keptCertificate = z.object({
  version: z.literal(1),
  cert_chain: z.string(),
  key: z.string(),
  not_after: z.int(),
});
const keptKey = z.object({
  version: z.literal(1),
  spki: z.string().regex(/^([0-9a-f]{2})+$/),
  issued_at: z.int(),
  evidence: evidence.optional(),
});
const keptAccount = z.object({
  version: z.literal(1),
  credentials: z.string(),
  evidence: evidence.optional(),
});

/**
 * The certificate of one base domain: ordered, kept, shown, renewed in time. The history of its keys is never shortened, since
 * whoever watches Certificate Transparency has to tell our certificates from others'.
 */
export class CertificateKeeper {
  readonly #options: CertificateKeeperOptions;
  #running: Promise<boolean> | undefined;
  #shown = '';

  constructor(options: CertificateKeeperOptions) {
    this.#options = options;
  }

  /** Shows the certificate that is kept, if there is one in force. @returns whether there was */
  async load(): Promise<boolean> {
    return this.#show(await this.#kept());
  }

  /** @returns whether it is in force, and so is shown */
  #show(kept: z.infer<typeof keptCertificate> | undefined): boolean {
    if (kept === undefined || kept.not_after <= this.#options.now()) return false;
    if (kept.cert_chain === this.#shown) return true;
    this.#options.certificates.set(this.#options.domain, { certChain: kept.cert_chain, key: kept.key });
    this.#shown = kept.cert_chain;
    return true;
  }

  /**
   * Renews the certificate when its time has come. Callers at the same time share one order.
   * @returns whether there is a new one
   * @throws CertbotError, GatewayError `state`; the certificate before stays
   */
  renew({ force = false }: { readonly force?: boolean } = {}): Promise<boolean> {
    this.#running ??= this.#renew(force).finally(() => {
      this.#running = undefined;
    });
    return this.#running;
  }

  /**
   * Lets our account alone order for the domain, by CAA records.
   * @returns whether they were changed; false too while there is no account
   * @throws CertbotError `dns-failed`, `acme-failed`; GatewayError `state`
   */
  async setCaa(): Promise<boolean> {
    const { dns, domain, caaIssuer } = this.#options;
    const known = await this.#account();
    return known !== undefined && (await setCaa(dns, domain, await caaIssuer(), known.account.uri));
  }

  async info(): Promise<AcmeInfo> {
    const { store } = this.#options;
    const account = await this.#account();
    const { entries } = await store.list(this.#keyPrefix());
    const keys = entries
      .map(({ key, value }) => read(key, value, keptKey))
      .sort((one, other) => one.issued_at - other.issued_at)
      .map(({ spki, evidence: found }) => ({ spki: fromHex(spki), evidence: found }));
    return {
      accountUri: account?.account.uri ?? '',
      accountEvidence: account?.evidence,
      keys,
      activeCertificate: (await this.#kept())?.cert_chain ?? '',
    };
  }

  async #renew(force: boolean): Promise<boolean> {
    const { domain, store } = this.#options;
    const known = await this.#kept();
    // Of another node, if the news of it got lost.
    this.#show(known);
    if (!force && this.#isYoung(known)) return false;
    const lock = await store.hold(`lock/cert/${domain}`, '', { replace: false });
    // Another node orders; its certificate is shown when it is there.
    if (lock === undefined) return false;
    try {
      const kept = await this.#kept();
      const isRenewedMeanwhile = kept?.not_after !== known?.not_after && this.#isYoung(kept);
      if (isRenewedMeanwhile) await this.load();
      return !isRenewedMeanwhile && (await this.#order(lock));
    } finally {
      await lock.release();
    }
  }

  #isYoung(kept: z.infer<typeof keptCertificate> | undefined): boolean {
    const { renewBeforeSeconds, now } = this.#options;
    return kept !== undefined && kept.not_after - renewBeforeSeconds > now();
  }

  async #order(lock: Held): Promise<boolean> {
    const { domain, dns, nameServers, maxDnsWaitMs, txtTtlSeconds, certificates } = this.#options;
    const account = await this.#accountOrNew(lock);
    const issue = this.#options.issue ?? issueCertificate;
    const issued = await issue({
      account,
      names: [`*.${domain}`],
      dns,
      nameServers,
      maxDnsWaitMs,
      txtTtlSeconds,
      onKey: (spki) => this.#keepKey(lock, spki),
    });
    await this.#keep(lock, issued);
    certificates.set(domain, issued);
    this.#shown = issued.certChain;
    return true;
  }

  /** Shows the certificate that another node has ordered. @returns ends it */
  async follow(onError: (error: Error) => void): Promise<() => void> {
    const name = `cert/${this.#options.domain}`;
    // What came is shown as it came: asking the store again could fail, and nobody would ask a third time.
    const show = (entry: Entry | undefined): void => {
      try {
        if (entry?.key === name) this.#show(read(name, entry.value, keptCertificate));
      } catch (error) {
        onError(error as Error);
      }
    };
    return await watchRecords(this.#options.store, name, {
      onAll: (entries) => entries.forEach(show),
      onOne: (_key, entry) => show(entry),
      onError,
    });
  }

  /** Before the order: a certificate whose key is in no history would look like a stranger's, for as long as it lives. */
  async #keepKey(lock: Held, spki: Uint8Array): Promise<void> {
    const { store, attest, now } = this.#options;
    const found = await attest(certReportData('zt-cert', spki));
    const name = createHash('sha256').update(spki).digest('hex');
    const record = { version: 1, spki: toHex(spki), issued_at: now(), ...(found && { evidence: found }) };
    await write(store, lock, `${this.#keyPrefix()}${name}`, record);
  }

  async #keep(lock: Held, { certChain, key, notAfter }: Issued): Promise<void> {
    const { store, domain } = this.#options;
    await write(store, lock, `cert/${domain}`, {
      version: 1,
      cert_chain: certChain,
      key,
      not_after: notAfter,
    });
  }

  async #accountOrNew(lock: Held): Promise<AcmeAccount> {
    const known = await this.#account();
    if (known !== undefined) return known.account;
    const { store, directoryUrl, attest } = this.#options;
    const register = this.#options.register ?? registerAccount;
    const account = await register(newAccount(directoryUrl));
    const found = await attest(certReportData('acme-account', account.uri));
    // Before anything names it: a CAA record for an account whose key is lost lets nobody order.
    const record = { version: 1, credentials: accountToJson(account), ...(found && { evidence: found }) };
    await write(store, lock, ACCOUNT, record);
    return account;
  }

  async #account(): Promise<
    { account: AcmeAccount & { readonly uri: string }; evidence: KeyEvidence | undefined } | undefined
  > {
    const { store, directoryUrl } = this.#options;
    const entry = (await store.list(ACCOUNT)).entries.find(({ key }) => key === ACCOUNT);
    if (entry === undefined) return undefined;
    const { credentials, evidence: found } = read(ACCOUNT, entry.value, keptAccount);
    return { account: accountFromJson(credentials, directoryUrl), evidence: found };
  }

  async #kept(): Promise<z.infer<typeof keptCertificate> | undefined> {
    const name = `cert/${this.#options.domain}`;
    const entry = (await this.#options.store.list(name)).entries.find(({ key }) => key === name);
    return entry && read(name, entry.value, keptCertificate);
  }

  #keyPrefix(): string {
    return `att/${this.#options.domain}/`;
  }
}

/** A damaged record is an error, never absent: a new account or key in its place would go unnoticed. */
function read<T>(name: string, text: string, schema: z.ZodType<T>): T {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (cause) {
    throw new GatewayError('state', `The record ${name} is damaged: it is not JSON`, { cause });
  }
  const parsed = schema.safeParse(json);
  if (parsed.success) return parsed.data;
  throw new GatewayError('state', `The record ${name} is damaged: ${parsed.error.issues[0]?.message}`);
}

/** Under the lock alone: who lost it while it worked writes nothing any more. */
async function write(store: StateStore, lock: Held, key: string, record: unknown): Promise<void> {
  const at = await store.commit([lock.expectation], [{ key, value: JSON.stringify(record) }]);
  if (at === undefined)
    throw new GatewayError('state', `The lock on the certificate was lost before ${key} was written`);
}
