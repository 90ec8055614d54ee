import {
  AttestationError,
  type Check,
  type CollateralSource,
  type CryptoBackend,
  type PlatformOptions,
  type PlatformResult,
  type TrustRoots,
  type VerificationCache,
  type VerifyOptions,
  verifyContext,
} from '@dstack-cloud/attestation';
import { padRight } from '@dstack-cloud/encoding';
import { VerifierError } from './errors.ts';
import { claimedReportData, modeOf } from './evidence/claims.ts';
import type { Evidence } from './evidence/evidence.ts';
import { type RecogniseOptions, recogniseEvidence } from './evidence/recognise.ts';
import { withFailedCheck } from './judge/failed-check.ts';
import type { Findings } from './judge/findings.ts';
import { judgeAttestation, type Progress } from './judge/judge-attestation.ts';
import { judgeBare } from './judge/judge-bare.ts';
import { judgePolicy, type VerifierPolicy } from './policy.ts';
import type { Report } from './report.ts';

/** What evidence is judged with; every default is the strict one. */
export interface VerifyEvidenceOptions extends RecogniseOptions {
  readonly roots: TrustRoots;
  readonly collateral: CollateralSource;
  /** Unix seconds. */
  readonly now: number;
  readonly policy?: VerifierPolicy;
  readonly crypto?: CryptoBackend;
  readonly cache?: VerificationCache;
  readonly platform?: PlatformOptions;
  /** Challenge that the evidence must carry, up to 64 bytes. */
  readonly reportData?: Uint8Array;
  /** Certificates that travel apart from the evidence, DER. */
  readonly chain?: readonly Uint8Array[];
}

/**
 * Judges evidence of any form and gives a report; bad evidence is a report too. Evidence and local policy are
 * judged apart: the policy is asked only about good evidence.
 * @param evidence bytes of any known form, or evidence that was recognised already
 */
export async function verify(
  evidence: Uint8Array | Evidence,
  options: VerifyEvidenceOptions,
): Promise<Report> {
  if (!(evidence instanceof Uint8Array)) return judge(evidence, options);
  try {
    return await judge(recogniseEvidence(evidence, options), options);
  } catch (error) {
    if (error instanceof VerifierError || error instanceof AttestationError) return unreadableReport(error);
    throw error;
  }
}

async function judge(evidence: Evidence, options: VerifyEvidenceOptions): Promise<Report> {
  const checks: Check[] = [];
  let genuine: PlatformResult | undefined;
  const progress: Progress = {
    checks: (more) => checks.push(...more),
    verified: (result) => {
      genuine = result;
    },
  };
  const mode = modeOf(evidence);
  const known = { form: evidence.form, mode, checks } as const;
  try {
    const findings = await findingsOf(evidence, options, progress);
    return {
      ...known,
      isValid: true,
      cannotJudge: false,
      tcbStatus: findings.tcbStatus,
      advisoryIds: findings.advisoryIds,
      appInfo: findings.appInfo,
      reportData: findings.reportData,
      simulated: findings.simulated,
      validFrom: finite(findings.validFrom),
      validUntil: finite(findings.validUntil),
      policy: judgePolicy(mode, findings, options.policy ?? {}, options.now),
      code: undefined,
      reason: undefined,
      registers: findings.registers,
      tcbEvaluationDataNumber: findings.tcbEvaluationDataNumber,
    };
  } catch (error) {
    if (!(error instanceof AttestationError)) throw error;
    return {
      ...refused(error),
      ...known,
      checks: withFailedCheck(checks, error),
      ...(genuine ? platformOf(genuine) : {}),
      reportData: claimedReportData(evidence),
    };
  }
}

async function findingsOf(
  evidence: Evidence,
  options: VerifyEvidenceOptions,
  progress: Progress,
): Promise<Findings> {
  const verifyOptions = toVerifyOptions(options);
  if (evidence.kind === 'attestation') return judgeAttestation(evidence, verifyOptions, progress);
  const context = verifyContext(verifyOptions);
  try {
    return await judgeBare(evidence, options.chain ?? [], context);
  } finally {
    progress.checks(context.checks.checks);
  }
}

function toVerifyOptions(options: VerifyEvidenceOptions): VerifyOptions {
  const { roots, collateral, now, crypto, cache, platform, reportData } = options;
  return {
    roots,
    collateral,
    now,
    ...(crypto ? { crypto } : {}),
    ...(cache ? { cache } : {}),
    ...(platform ? { platform } : {}),
    ...(reportData ? { expectedReportData: padRight(reportData, 64) } : {}),
  };
}

function refused(error: AttestationError | VerifierError) {
  return {
    isValid: false,
    cannotJudge: error.code === 'collateral-unavailable',
    tcbStatus: undefined,
    advisoryIds: [],
    appInfo: undefined,
    simulated: false,
    validFrom: undefined,
    validUntil: undefined,
    policy: { ok: false, reasons: ['The evidence is not valid'] },
    code: error.code,
    reason: error.message,
    registers: {},
    tcbEvaluationDataNumber: undefined,
  } as const;
}

/** A report about what could not even be read: evidence, or what `check` names. */
export function unreadableReport(error: AttestationError | VerifierError, check?: string): Report {
  const checks = withFailedCheck([], error, check);
  return { ...refused(error), form: 'unknown', mode: 'unknown', reportData: undefined, checks };
}

/** What the hardware vouched for, although the image step refused. */
function platformOf({ tcbStatus, advisoryIds, simulated, validFrom, validUntil, registers }: PlatformResult) {
  return {
    tcbStatus,
    advisoryIds,
    simulated,
    validFrom: finite(validFrom),
    validUntil: finite(validUntil),
    registers,
  };
}

function finite(time: number): number | undefined {
  return Number.isFinite(time) ? time : undefined;
}
