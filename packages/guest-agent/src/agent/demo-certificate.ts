import { ratlsReportData } from '@dstack-cloud/attestation';
import type { EvidenceDevice } from '@dstack-cloud/attestation/attester';
import { generateP256Key } from '@dstack-cloud/keys';
import { errorChain } from '@dstack-cloud/runtime';
import type { Logger } from '../log.ts';
import type { DemoCertificate } from './agent.ts';
import type { CertificateSigner, LeafRequest, SignInput } from './certificate-signer.ts';

/** Shortest time between attempts: Info is called often, a signer that is down must not be asked each time. */
const RETRY_MS = 5_000;

/** Evidence over a public key. */
type AttestKey = (spki: Uint8Array, nonce?: Uint8Array) => ReturnType<SignInput['attest']>;

const REQUEST: LeafRequest = {
  subject: 'demo-cert',
  altNames: [],
  usageRaTls: true,
  usageServerAuth: false,
  usageClientAuth: true,
  withAppInfo: false,
};

/**
 * Issues the certificate of `app_cert` in the background; its private key is thrown away (docs/protocol/guest-agent.md
 * section 4.6).
 */
export class BackgroundDemoCertificate implements DemoCertificate {
  readonly #signer: CertificateSigner;
  readonly #attest: AttestKey;
  readonly #log: Logger;
  #pem = '';
  #running: Promise<void> | undefined;
  #lastAttempt = Number.NEGATIVE_INFINITY;

  constructor(signer: CertificateSigner, attest: AttestKey, log: Logger) {
    this.#signer = signer;
    this.#attest = attest;
    this.#log = log;
  }

  current(): string {
    if (this.#pem === '') void this.issue();
    return this.#pem;
  }

  /** Tries once, unless an attempt is running or was made a moment ago; never rejects. */
  issue(): Promise<void> {
    if (this.#pem !== '') return Promise.resolve();
    if (this.#running === undefined && performance.now() - this.#lastAttempt >= RETRY_MS) {
      this.#lastAttempt = performance.now();
      this.#running = this.#try().finally(() => {
        this.#running = undefined;
      });
    }
    return this.#running ?? Promise.resolve();
  }

  async #try(): Promise<void> {
    try {
      const key = generateP256Key();
      const attest = (nonce?: Uint8Array) => this.#attest(key.spki, nonce);
      const chain = await this.#signer.sign({ key, request: REQUEST, attest });
      // The original joins with LF although each PEM already ends with one.
      this.#pem = chain.join('\n');
    } catch (error) {
      this.#log.warn({ error: errorChain(error) }, 'Demo certificate was not issued');
    }
  }
}

/** Evidence of a device over public keys. */
export function attestKeys(device: EvidenceDevice): AttestKey {
  return (spki, nonce) => device.attest(ratlsReportData(spki), nonce && { nonce });
}
