import { AttestationError, type VerifiedAttestation } from '@dstack-cloud/attestation';
import { RpcError } from '@dstack-cloud/prpc';
import {
  type PeerCertificate,
  type PeerVerifier,
  RaTlsError,
  readThen,
  type ShownCertificate,
  type ShownVerifier,
  verifyPeerAttestation,
} from '@dstack-cloud/ra-tls';
import type { KmsConfig } from '../config/kms-config.ts';
import type { Log } from '../telemetry/log.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import { platformOptions } from './platform-options.ts';
import { publicRefusal } from './refusal.ts';
import type { Trust } from './trust.ts';
import { Turnstile } from './turnstile.ts';
import { VerdictCache } from './verdict-cache.ts';

/** Judges evidence in certificates and signing requests, a bounded number at a time. */
export type EvidenceJudge = {
  /** @throws RaTlsError when the evidence is refused, RpcError `UNAVAILABLE` when too many wait */
  readonly verify: PeerVerifier;
  /**
   * Reads a client's certificate and judges the evidence in it, and remembers for ten minutes what was found good. The
   * holder of its key has just proved to be there; the decision is made for every request all the same.
   * @throws as `verify`, and RaTlsError `malformed`
   */
  readonly verifyCertificate: ShownVerifier;
  /** What `verifyCertificate` remembers: a verdict that costs nothing. */
  readonly knownVerdict: (certificate: ShownCertificate) => VerifiedAttestation | undefined;
};

export function evidenceJudge(
  config: KmsConfig,
  trust: Trust,
  { metrics, log, now }: { metrics: Metrics; log: Log; now: () => number },
): EvidenceJudge {
  const turnstile = new Turnstile(config.core.rate_limit.max_verifications);
  const platform = platformOptions(config);
  const judge = async (certificate: PeerCertificate): Promise<VerifiedAttestation> => {
    const { roots, collateral } = trust;
    return verifyPeerAttestation(certificate, { roots, collateral, now: now(), platform });
  };
  const verdicts = new VerdictCache(now);
  const judgeEvidence: EvidenceJudge = {
    verifyCertificate: (shown) => verdicts.get(shown, () => readThen(judgeEvidence.verify)(shown)),
    knownVerdict: (certificate) => verdicts.known(certificate),
    verify: async (certificate) => {
      const mode = certificate.attestation?.quote.mode ?? 'none';
      try {
        const verified = await turnstile.run(() => judge(certificate));
        metrics.attestationVerifications.inc({ platform: mode, result: 'ok' });
        return verified;
      } catch (error) {
        const result = error instanceof RpcError ? 'overload' : 'refused';
        metrics.attestationVerifications.inc({ platform: mode, result });
        log.warn({ platform: mode, ...describeRefusal(error) }, 'attestation verification failed');
        throw error instanceof RaTlsError ? publicRefusal(error) : error;
      }
    },
  };
  return judgeEvidence;
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
