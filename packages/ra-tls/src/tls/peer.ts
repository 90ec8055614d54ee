import type { IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';
import { AttestationError, type Certificate, type VerifiedAttestation } from '@dstack-cloud/attestation';
import type { RaTlsCertificate } from '../certificate/parse-ra-tls-certificate.ts';
import { RaTlsError } from '../errors.ts';

/** Longest time for which a verdict on a connection's evidence is reused (chapter 10 section 3.8). */
const MAX_VERDICT_AGE_MS = 10 * 60_000;

/** What is asked of a peer's certificate once it was read. */
export type PeerCertificate = Pick<RaTlsCertificate, 'spki' | 'attestation'> & {
  readonly certificate: Pick<Certificate, 'notBefore' | 'notAfter'>;
};

/** Judges the evidence in a certificate; see `verifyPeerAttestation`. */
export type PeerVerifier = (certificate: PeerCertificate) => Promise<VerifiedAttestation>;

/** The client at the other end of a connection. Its certificate was read once, right after the handshake. */
export interface Peer {
  /** Undefined when the client showed no certificate. */
  readonly certificateDer?: Uint8Array;
  /** Undefined without a certificate, and when it could not be read. */
  readonly parsed?: PeerCertificate;
  /** Whether the certificate chains to the client CA, which proves nothing about the client. */
  readonly chained: boolean;
  /**
   * The client's evidence, verified at most once per connection and ten minutes; undefined when it carries none.
   * @throws RaTlsError when the certificate could not be read or its evidence is refused: such a client gets no answer
   */
  attestation(verify: PeerVerifier): Promise<VerifiedAttestation | undefined>;
}

export interface ShownCertificate {
  readonly certificateDer?: Uint8Array;
  readonly parsed?: PeerCertificate;
  readonly parseError?: RaTlsError;
  readonly chained: boolean;
}

interface Verdict {
  readonly since: number;
  readonly result: Promise<VerifiedAttestation>;
}

/** One connection's client. */
export class TlsPeer implements Peer {
  readonly certificateDer?: Uint8Array;
  readonly parsed?: PeerCertificate;
  readonly chained: boolean;
  readonly #parseError: RaTlsError | undefined;
  readonly #now: () => number;
  #verdict: Verdict | undefined;

  /** @param now milliseconds since 1970 */
  constructor(certificate: ShownCertificate, now: () => number) {
    if (certificate.certificateDer) this.certificateDer = certificate.certificateDer;
    if (certificate.parsed) this.parsed = certificate.parsed;
    this.chained = certificate.chained;
    this.#parseError = certificate.parseError;
    this.#now = now;
  }

  async attestation(verify: PeerVerifier): Promise<VerifiedAttestation | undefined> {
    if (this.#parseError) throw this.#parseError;
    if (!this.parsed?.attestation) return undefined;
    const now = this.#now();
    let verdict = this.#verdict;
    if (!verdict || !(now >= verdict.since && now - verdict.since < MAX_VERDICT_AGE_MS)) {
      verdict = { since: now, result: verify(this.parsed) };
      this.#verdict = verdict;
    }
    try {
      const verified = await verdict.result;
      if (verified.validUntil * 1000 >= this.#now()) return verified;
      this.#drop(verdict);
      throw new RaTlsError(
        'attestation-refused',
        'invalid quote: the evidence has expired on this connection',
      );
    } catch (error) {
      if (mayPass(error)) this.#drop(verdict);
      throw error;
    }
  }

  #drop(verdict: Verdict): void {
    if (this.#verdict === verdict) this.#verdict = undefined;
  }
}

/** Refusals for want of collateral, and errors of ours, say nothing about the evidence: the next request tries again. */
function mayPass(error: unknown): boolean {
  if (!(error instanceof RaTlsError)) return true;
  return error.cause instanceof AttestationError && error.cause.code === 'collateral-unavailable';
}

const peers = new WeakMap<Socket, Peer>();
const ANONYMOUS: Peer = { chained: false, attestation: () => Promise.resolve(undefined) };

/** Remembers who is at the other end of a connection. */
export function setPeer(socket: Socket, peer: Peer): void {
  peers.set(socket, peer);
}

/** The client that sent a request; on connections without TLS, a client without a certificate. */
export function peerOf(request: Pick<IncomingMessage, 'socket'>): Peer {
  return peers.get(request.socket) ?? ANONYMOUS;
}
