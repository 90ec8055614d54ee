import type { IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';
import { AttestationError, type VerifiedAttestation } from '@dstack-cloud/attestation';
import { parseRaTlsCertificate, type RaTlsCertificate } from '../certificate/parse-ra-tls-certificate.ts';
import { RaTlsError } from '../errors.ts';
import type { ShownCertificate } from './shown-certificate.ts';

/** What is asked of a peer's certificate once it has been read. */
export type PeerCertificate = Pick<RaTlsCertificate, 'spki' | 'attestation'>;

/** Verifies the evidence in a certificate; see `verifyPeerAttestation`. */
export type PeerVerifier = (certificate: PeerCertificate) => Promise<VerifiedAttestation>;

/**
 * Reads a certificate that a client showed and verifies the evidence in it; undefined when there is none. What it says of
 * good evidence is its own.
 */
export type ShownVerifier<T = VerifiedAttestation> = (
  certificate: ShownCertificate,
) => Promise<T | undefined>;

/** Reads the certificate, which costs far more than its bytes suggest, and has its evidence verified. */
export function readThen(verify: PeerVerifier): ShownVerifier {
  return async ({ der }) => {
    const certificate = parseRaTlsCertificate(der);
    return certificate.attestation && verify(certificate);
  };
}

/** The client at the other end of a connection. */
export interface Peer {
  /** Undefined when the client showed no certificate. */
  readonly certificate?: ShownCertificate;
  /** Whether the certificate chains to the client CA, which proves nothing about the client. */
  readonly chained: boolean;
  /**
   * The client's evidence; undefined when it showed none. A refusal is kept for as long as the connection is; how long
   * a good result holds is for `verify` to know, which is asked each time. All requests of a server pass the same one.
   * @throws RaTlsError when the certificate cannot be read or its evidence is refused: such a client gets no answer
   */
  attestation<T>(verify: ShownVerifier<T>): Promise<T | undefined>;
}

/** One connection's client. It holds the certificate's bytes and nothing that was made of them. */
export class TlsPeer implements Peer {
  readonly certificate?: ShownCertificate;
  readonly chained: boolean;
  /** Of requests at the same time, the first asks for all. */
  #verifying: Promise<unknown> | undefined;
  #refusal: RaTlsError | undefined;
  /** The certificate was read, and there is no evidence in it. */
  #isBare = false;

  /** @param refusal why the certificate is none */
  constructor(certificate: ShownCertificate | undefined, chained: boolean, refusal?: RaTlsError) {
    if (certificate) this.certificate = certificate;
    this.chained = chained;
    this.#refusal = refusal;
  }

  async attestation<T>(verify: ShownVerifier<T>): Promise<T | undefined> {
    if (this.#refusal) throw this.#refusal;
    if (!this.certificate || this.#isBare) return undefined;
    this.#verifying ??= this.#verify(this.certificate, verify).finally(() => {
      this.#verifying = undefined;
    });
    return this.#verifying as Promise<T | undefined>;
  }

  async #verify<T>(certificate: ShownCertificate, verify: ShownVerifier<T>): Promise<T | undefined> {
    try {
      const verified = await verify(certificate);
      this.#isBare = verified === undefined;
      return verified;
    } catch (error) {
      if (error instanceof RaTlsError && !mayPass(error)) this.#refusal = error;
      throw error;
    }
  }
}

/** Refusals for want of collateral say nothing about the evidence: the next request tries again. */
function mayPass({ cause }: RaTlsError): boolean {
  return cause instanceof AttestationError && cause.code === 'collateral-unavailable';
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
