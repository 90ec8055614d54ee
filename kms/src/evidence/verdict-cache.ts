import { createHash } from 'node:crypto';
import type { VerifiedAttestation } from '@dstack-cloud/attestation';
import { type PeerCertificate, parseRaTlsCertificate } from '@dstack-cloud/ra-tls';
import { keepCertificate, keepVerified } from './kept-evidence.ts';

const MAX_VERDICTS = 2048;
const MAX_AGE_SECONDS = 600;

type Verdict = {
  readonly since: number;
  certificate: PeerCertificate;
  readonly result: Promise<VerifiedAttestation>;
  /** Once it is known. */
  verified?: VerifiedAttestation;
};

/**
 * What was found of certificates, by their SHA-256: only what was found good, for ten minutes and never beyond the
 * life of the collateral it was judged with. Callers with the same certificate share one judgement, and as long as
 * there is one the certificate is not read again either.
 */
export class VerdictCache {
  readonly #verdicts = new Map<string, Verdict>();
  readonly #names = new WeakMap<PeerCertificate, string>();
  readonly #now: () => number;

  /** @param now unix seconds */
  constructor(now: () => number) {
    this.#now = now;
  }

  /** Reads a certificate. @throws RaTlsError `malformed` */
  read(der: Uint8Array): PeerCertificate {
    const name = createHash('sha256').update(der).digest('base64');
    const certificate = this.#verdicts.get(name)?.certificate ?? parseRaTlsCertificate(der);
    this.#names.set(certificate, name);
    return certificate;
  }

  /** The verdict on a certificate that `read` gave, if it is good and known. */
  known(certificate: PeerCertificate): VerifiedAttestation | undefined {
    const verified = this.#current(this.#names.get(certificate))?.verified;
    return verified !== undefined && verified.validUntil >= this.#now() ? verified : undefined;
  }

  /** The verdict on a certificate that `read` gave; of any other one nothing is remembered. */
  async get(
    certificate: PeerCertificate,
    judge: () => Promise<VerifiedAttestation>,
  ): Promise<VerifiedAttestation> {
    const name = this.#names.get(certificate);
    if (name === undefined) return judge();
    const current = this.#current(name);
    if (current !== undefined) {
      const verified = await current.result;
      if (verified.validUntil >= this.#now()) return verified;
    }
    const verdict: Verdict = { since: this.#now(), certificate, result: judge().then(keepVerified) };
    this.#verdicts.delete(name);
    this.#verdicts.set(name, verdict);
    if (this.#verdicts.size > MAX_VERDICTS) this.#verdicts.delete(this.#verdicts.keys().next().value!);
    verdict.result.then(
      (verified) => {
        verdict.verified = verified;
        verdict.certificate = keepCertificate(certificate, verified);
      },
      () => {
        if (this.#verdicts.get(name) === verdict) this.#verdicts.delete(name);
      },
    );
    return verdict.result;
  }

  #current(name: string | undefined): Verdict | undefined {
    const verdict = name === undefined ? undefined : this.#verdicts.get(name);
    if (verdict === undefined) return undefined;
    const age = this.#now() - verdict.since;
    return age >= 0 && age < MAX_AGE_SECONDS ? verdict : undefined;
  }
}
