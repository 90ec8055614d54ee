import type { AppraisalResult, AttestationErrorCode, Check } from '@dstack-cloud/attestation';
import type { VerifierErrorCode } from './errors.ts';
import type { Comparison } from './policy/appraise.ts';
import { verdictOf } from './verdict.ts';

/** Identities and measurements, as in docs/protocol/verification.md section 8: hex, in this order. */
export interface AppInfoJson {
  readonly app_id: string;
  readonly compose_hash: string;
  readonly instance_id: string;
  readonly device_id: string;
  readonly mr_system: string;
  readonly mr_aggregated: string;
  readonly os_image_hash: string;
  readonly key_provider_info: string;
  /** Null where the platform has no such events and its document names none. */
  readonly init_script_hashes: readonly string[] | null;
}

/** Everything that is known after verifying one piece of evidence. */
export interface Report {
  /** The evidence's own verdict: genuine, bound, consistent, of its image. Policy has no part in it. */
  readonly isValid: boolean;
  /** Unix seconds: the time that this report is about. */
  readonly verifiedAt: number;
  /** Whether that is the present; otherwise somebody chose it, and collateral may have been revoked since. */
  readonly verifiedNow: boolean;
  /** Whether evidence was made for a nonce of this verifier; anything else may be a recording. */
  readonly fresh: boolean;
  /** True when nothing was found wrong, but collateral is missing: then `isValid` is false. */
  readonly cannotJudge: boolean;
  /** How the evidence was written, e.g. `quote-hex`. */
  readonly form: string;
  readonly mode: string;
  /** Undefined until it is known; the empty string where a platform has none. */
  readonly tcbStatus: string | undefined;
  readonly advisoryIds: readonly string[];
  readonly appInfo: AppInfoJson | undefined;
  /** As the evidence claims it; believe it only when `isValid`. */
  readonly reportData: Uint8Array | undefined;
  /** True when a root other than the vendor's vouches for the evidence. */
  readonly simulated: boolean;
  /** Unix seconds between which the same evidence and collateral give the same verdict. */
  readonly validFrom: number | undefined;
  readonly validUntil: number | undefined;
  /** In order; the failing one last. */
  readonly checks: readonly Check[];
  readonly policy: AppraisalResult;
  /** The part of the policy that is about patch levels. */
  readonly tcbPolicy: AppraisalResult;
  /** What the evidence was compared with; nothing when nobody said what is wanted. */
  readonly comparisons: readonly Comparison[];
  /** The compose file that came along, held against the measured hash. */
  readonly appCompose: string | undefined;
  /** Why the evidence is not valid. */
  readonly code: AttestationErrorCode | VerifierErrorCode | undefined;
  readonly reason: string | undefined;
  /** Registers by name, once verified. */
  readonly registers: Readonly<Record<string, Uint8Array>>;
  readonly tcbEvaluationDataNumber: number | undefined;
}

/** The JSON of `dstack-verifier verify --json`. */
export function reportToJson(report: Report, hex: (bytes: Uint8Array) => string): Record<string, unknown> {
  return {
    is_valid: report.isValid,
    verdict: verdictOf(report),
    verified_at: report.verifiedAt,
    verified_now: report.verifiedNow,
    fresh: report.fresh,
    form: report.form,
    mode: report.mode,
    tcb_status: report.tcbStatus ?? null,
    advisory_ids: report.advisoryIds,
    app_info: report.appInfo ?? null,
    report_data: report.reportData ? hex(report.reportData) : null,
    simulated: report.simulated,
    valid_from: report.validFrom ?? null,
    valid_until: report.validUntil ?? null,
    checks: report.checks.map(({ id, ok, expected, found }) => ({
      id,
      ok,
      ...(expected === undefined ? {} : { expected }),
      ...(found === undefined ? {} : { found }),
    })),
    policy: report.policy,
    compared: report.comparisons,
    reason: report.reason ?? null,
  };
}
