import { createHash } from 'node:crypto';
import type { ShownCertificate } from '@dstack-cloud/ra-tls';
import { BoundedMap } from '@dstack-cloud/runtime';
import type { VerifiedEvidence } from './verified-evidence.ts';

const MAX_CERTIFICATES = 2048;
const MAX_AGE_SECONDS = 600;

type Entry = {
  readonly since: number;
  readonly result: Promise<VerifiedEvidence | undefined>;
  /** Once it is known. */
  verified?: VerifiedEvidence;
};

/**
 * What was found of certificates, by their SHA-256: only what was found good, for ten minutes and never beyond the
 * life of the collateral it was verified with. Callers with the same certificate share one verification, and as long as
 * there is one the certificate is not read again either.
 */
export class VerifiedCertificates {
  readonly #entries = new BoundedMap<string, Entry>(MAX_CERTIFICATES);
  readonly #names = new WeakMap<ShownCertificate, string>();
  readonly #now: () => number;

  /** @param now unix seconds */
  constructor(now: () => number) {
    this.#now = now;
  }

  /** The result for a certificate, if it is good and known. */
  known(certificate: ShownCertificate): VerifiedEvidence | undefined {
    const verified = this.#current(this.#nameOf(certificate))?.verified;
    return verified !== undefined && verified.validUntil >= this.#now() ? verified : undefined;
  }

  /** The result for a certificate; of one without evidence nothing is remembered. */
  async get(
    certificate: ShownCertificate,
    verify: () => Promise<VerifiedEvidence | undefined>,
  ): Promise<VerifiedEvidence | undefined> {
    const name = this.#nameOf(certificate);
    const current = this.#current(name);
    if (current !== undefined) {
      const verified = await current.result;
      if (verified === undefined || verified.validUntil >= this.#now()) return verified;
    }
    const result = verify().then((verified) => verified?.pack());
    const entry: Entry = { since: this.#now(), result };
    this.#entries.set(name, entry);
    const forget = (): void => {
      if (this.#entries.get(name) === entry) this.#entries.delete(name);
    };
    result.then((verified) => {
      if (verified === undefined) forget();
      else entry.verified = verified;
    }, forget);
    return result;
  }

  /** A connection's certificate is hashed once. */
  #nameOf(certificate: ShownCertificate): string {
    const known = this.#names.get(certificate);
    if (known !== undefined) return known;
    const name = createHash('sha256').update(certificate.der).digest('base64');
    this.#names.set(certificate, name);
    return name;
  }

  #current(name: string): Entry | undefined {
    const entry = this.#entries.get(name);
    if (entry === undefined) return undefined;
    const age = this.#now() - entry.since;
    return age >= 0 && age < MAX_AGE_SECONDS ? entry : undefined;
  }
}
