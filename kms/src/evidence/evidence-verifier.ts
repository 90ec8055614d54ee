import { AttestationError, type AttestationMode, type CollateralSource } from '@dstack-cloud/attestation';
import { ConcurrencyLimiter, RpcError } from '@dstack-cloud/prpc';
import {
  type PeerCertificate,
  parseRaTlsCertificate,
  RaTlsError,
  type ShownCertificate,
  verifyPeerAttestation,
} from '@dstack-cloud/ra-tls';
import type { KmsConfig } from '../config/kms-config.ts';
import type { Prover } from '../limits/rate-limits.ts';
import type { Log } from '../telemetry/log.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import { platformOptions } from './platform-options.ts';
import { publicRefusal } from './refusal.ts';
import { closedGate } from './release-gate.ts';
import type { Trust } from './trust.ts';
import { VerifiedCertificates } from './verified-certificates.ts';
import { VerifiedEvidence } from './verified-evidence.ts';

/** Verifies evidence in certificates and signing requests, a bounded number at a time. */
export type EvidenceVerifier = {
  /**
   * Reads evidence only once it is its turn, since a few bytes may become much, and verifies it.
   * @param prover who shows it; none when this KMS asked for it
   * @throws RaTlsError when the evidence is refused, RpcError `UNAVAILABLE` when too many wait, and what `read` throws
   */
  readonly readAndVerify: (read: () => PeerCertificate, prover?: Prover) => Promise<VerifiedEvidence>;
  /**
   * Reads a client's certificate and verifies the evidence in it, and remembers for ten minutes what was found good;
   * undefined when there is none. The holder of its key has just proved to be there; the decision is made for every
   * request all the same.
   * @throws as `readAndVerify`, and RaTlsError `malformed`
   */
  readonly verifyCertificate: (
    shown: ShownCertificate,
    prover: Prover,
  ) => Promise<VerifiedEvidence | undefined>;
  /** What `verifyCertificate` remembers: a result that costs nothing. */
  readonly knownResult: (certificate: ShownCertificate) => VerifiedEvidence | undefined;
};

/** Nobody is bounded by what this KMS asks for itself. */
const OURSELVES: Prover = { network: '', permit: () => undefined };

export function evidenceVerifier(
  config: KmsConfig,
  trust: Trust,
  { metrics, log, now }: { metrics: Metrics; log: Log; now: () => number },
): EvidenceVerifier {
  const limiter = new ConcurrencyLimiter(config.core.rate_limit.max_verifications);
  const platform = platformOptions(config);
  const certificates = new VerifiedCertificates(now);

  const verifyEvidence = async (peer: PeerCertificate, { permit }: Prover): Promise<VerifiedEvidence> => {
    const { roots, collateral: source } = trust;
    const gate = peer.attestation && closedGate(peer.attestation.quote.mode, config);
    const collateral = gate === undefined ? source : askingNobody(source, gate);
    const verified = await verifyPeerAttestation(peer, { roots, collateral, permit, now: now(), platform });
    return new VerifiedEvidence(verified);
  };

  async function inTurn(read: () => PeerCertificate, prover: Prover): Promise<VerifiedEvidence | undefined> {
    let mode: AttestationMode | 'none' = 'none';
    try {
      const verified = await limiter.run(prover.network, async () => {
        const peer = read();
        if (peer.attestation === undefined) return undefined;
        mode = peer.attestation.quote.mode;
        return verifyEvidence(peer, prover);
      });
      if (verified !== undefined) metrics.attestationVerifications.inc({ platform: mode, result: 'ok' });
      return verified;
    } catch (error) {
      const result = error instanceof RpcError ? 'overload' : 'refused';
      metrics.attestationVerifications.inc({ platform: mode, result });
      log.warn({ platform: mode, ...describeRefusal(error) }, 'attestation verification failed');
      throw error instanceof RaTlsError ? publicRefusal(error) : error;
    }
  }

  const readAndVerify: EvidenceVerifier['readAndVerify'] = async (read, prover = OURSELVES) => {
    const verified = await inTurn(read, prover);
    if (verified === undefined) throw new RaTlsError('no-attestation', 'No attestation provided');
    return verified;
  };
  return {
    readAndVerify,
    verifyCertificate: (shown, prover) =>
      certificates.get(shown, () => inTurn(() => parseRaTlsCertificate(shown.der), prover)),
    knownResult: (certificate) => certificates.known(certificate),
  };
}

/**
 * For evidence of a platform that gets no keys: it is verified as far as possible without asking anybody, and what would
 * have to be asked for is refused for what it is.
 */
function askingNobody(source: CollateralSource, reason: string): CollateralSource {
  const refuse = (): Promise<never> => Promise.reject(new AttestationError('policy', reason));
  return { tdx: (request) => source.tdx(request), snp: refuse, tpm: refuse, pckCertificate: refuse };
}

/** What the log says about refused evidence: which check, never the evidence itself. */
function describeRefusal(error: unknown): Record<string, unknown> {
  if (!(error instanceof Error)) return { reason: String(error) };
  const cause = error instanceof RaTlsError ? error.cause : undefined;
  if (!(cause instanceof AttestationError)) return { reason: error.message };
  const { code, check, expected, found } = cause;
  return {
    reason: error.message,
    code,
    check,
    expected: expected?.slice(0, 256),
    found: found?.slice(0, 256),
  };
}
