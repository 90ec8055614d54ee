import { createHash } from 'node:crypto';
import type { VerifiedAttestation } from '@dstack-cloud/attestation';

const MAX_VERDICTS = 2048;
const MAX_AGE_SECONDS = 600;

type Verdict = { readonly since: number; readonly result: Promise<VerifiedAttestation> };

/**
 * What was found of certificates, by their SHA-256: only what was found good, for ten minutes and never beyond the
 * life of the collateral it was judged with. Callers with the same certificate share one judgement.
 */
export class VerdictCache {
  readonly #verdicts = new Map<string, Verdict>();
  readonly #now: () => number;

  /** @param now unix seconds */
  constructor(now: () => number) {
    this.#now = now;
  }

  async get(
    certificate: Uint8Array,
    judge: () => Promise<VerifiedAttestation>,
  ): Promise<VerifiedAttestation> {
    const name = createHash('sha256').update(certificate).digest('base64');
    const now = this.#now();
    const known = this.#verdicts.get(name);
    if (known !== undefined && now >= known.since && now - known.since < MAX_AGE_SECONDS) {
      const verified = await known.result;
      if (verified.validUntil >= this.#now()) return verified;
    }
    const verdict = { since: now, result: judge() };
    this.#verdicts.delete(name);
    this.#verdicts.set(name, verdict);
    if (this.#verdicts.size > MAX_VERDICTS) this.#verdicts.delete(this.#verdicts.keys().next().value!);
    verdict.result.catch(() => {
      if (this.#verdicts.get(name) === verdict) this.#verdicts.delete(name);
    });
    return verdict.result;
  }
}
