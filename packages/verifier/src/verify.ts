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
import { freshReportData } from './evidence/fresh-report-data.ts';
import { type RecogniseOptions, recogniseEvidence } from './evidence/recognise.ts';
import { withFailedCheck } from './findings/failed-check.ts';
import type { Findings } from './findings/findings.ts';
import { verifyBareEvidence } from './findings/verify-bare-evidence.ts';
import { type Progress, verifyDstackEvidence } from './findings/verify-dstack-evidence.ts';
import { appraise, type VerifierPolicy } from './policy/appraise.ts';
import { type Expectations, readExpectations } from './policy/expectations.ts';
import type { Report } from './report.ts';

const MAX_REPORT_DATA = 64;
/** How far from the clock a time may be and still be called now: verifying may take its time. */
const NOW_SECONDS = 300;

/** What evidence is verified with; every default is the strict one. */
export interface VerifyEvidenceOptions extends RecogniseOptions {
  readonly roots: TrustRoots;
  readonly collateral: CollateralSource;
  /** Unix seconds. */
  readonly now: number;
  readonly policy?: VerifierPolicy;
  readonly crypto?: CryptoBackend;
  readonly cache?: VerificationCache;
  readonly platform?: PlatformOptions;
  /** Challenge that the evidence must carry, 1 to 64 bytes. */
  readonly reportData?: Uint8Array;
  /** Nonce with which the evidence was just asked for from a guest agent, instead of `reportData`. */
  readonly nonce?: Uint8Array;
  /** Certificates that travel apart from the evidence, DER. */
  readonly chain?: readonly Uint8Array[];
}

/**
 * Verifies evidence of any form and gives a report; bad evidence is a report too. Evidence and local policy are
 * verified and appraised apart: the policy is asked only about good evidence.
 * @param evidence bytes of any known form, or evidence that was recognised already
 * @throws VerifierError `expectation`, `usage` when it is not clear what is asked
 */
export async function verify(
  evidence: Uint8Array | Evidence,
  options: VerifyEvidenceOptions,
): Promise<Report> {
  const expectations = readExpectations(Object.entries(options.policy?.expect ?? {}));
  requireOneChallenge(options);
  if (!(evidence instanceof Uint8Array)) return reportOn(evidence, options, expectations);
  try {
    return await reportOn(recogniseEvidence(evidence, options), options, expectations);
  } catch (error) {
    if (error instanceof VerifierError || error instanceof AttestationError)
      return unreadableReport(error, options.now);
    throw error;
  }
}

/** An empty challenge, padded with zeros, would be one that nobody sent. */
function requireOneChallenge({ reportData, nonce }: VerifyEvidenceOptions): void {
  if (reportData && nonce) {
    throw new VerifierError('usage', 'Evidence that was asked for with a nonce carries no other report data');
  }
  if (reportData && (reportData.length === 0 || reportData.length > MAX_REPORT_DATA)) {
    throw new VerifierError(
      'expectation',
      `The expected report data has ${reportData.length} bytes, not 1 to 64`,
    );
  }
}

async function reportOn(
  evidence: Evidence,
  options: VerifyEvidenceOptions,
  expectations: Expectations,
): Promise<Report> {
  const checks: Check[] = [];
  let genuine: PlatformResult | undefined;
  const progress: Progress = {
    checks: (more) => checks.push(...more),
    verified: (result) => {
      genuine = result;
    },
  };
  const mode = modeOf(evidence);
  const known = { ...timeOf(options.now), form: evidence.form, mode, checks } as const;
  try {
    const findings = await findingsOf(evidence, options, progress);
    const { policy, tcb, comparisons } = appraise(
      mode,
      findings,
      options.policy ?? {},
      expectations,
      options.now,
    );
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
      fresh: options.nonce !== undefined,
      policy,
      tcbPolicy: tcb,
      comparisons,
      appCompose: evidence.kind === 'attestation' ? evidence.appCompose : undefined,
      code: undefined,
      reason: undefined,
      registers: findings.registers,
      tcbEvaluationDataNumber: findings.tcbEvaluationDataNumber,
    };
  } catch (error) {
    if (!(error instanceof AttestationError)) throw error;
    return {
      ...refused(error, options.now),
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
  if (evidence.kind === 'attestation') return verifyDstackEvidence(evidence, verifyOptions, progress);
  const context = verifyContext(verifyOptions);
  try {
    return await verifyBareEvidence(evidence, options.chain ?? [], context);
  } finally {
    progress.checks(context.checks.checks);
  }
}

function toVerifyOptions(options: VerifyEvidenceOptions): VerifyOptions {
  const { roots, collateral, now, crypto, cache, platform, nonce } = options;
  const reportData = nonce ? freshReportData(nonce) : options.reportData;
  return {
    roots,
    collateral,
    now,
    ...(crypto ? { crypto } : {}),
    ...(cache ? { cache } : {}),
    ...(platform ? { platform } : {}),
    ...(reportData ? { expectedReportData: padRight(reportData, MAX_REPORT_DATA) } : {}),
  };
}

function refused(error: AttestationError | VerifierError, now: number) {
  const notValid = { ok: false, reasons: ['The evidence is not valid'] } as const;
  return {
    ...timeOf(now),
    fresh: false,
    isValid: false,
    cannotJudge: error.code === 'collateral-unavailable',
    tcbStatus: undefined,
    advisoryIds: [],
    appInfo: undefined,
    simulated: false,
    validFrom: undefined,
    validUntil: undefined,
    policy: notValid,
    tcbPolicy: notValid,
    comparisons: [],
    appCompose: undefined,
    code: error.code,
    reason: error.message,
    registers: {},
    tcbEvaluationDataNumber: undefined,
  } as const;
}

/** A report about what could not even be read: evidence, or what `check` names. @param now unix seconds */
export function unreadableReport(
  error: AttestationError | VerifierError,
  now: number,
  check?: string,
): Report {
  const checks = withFailedCheck([], error, check);
  return { ...refused(error, now), form: 'unknown', mode: 'unknown', reportData: undefined, checks };
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

/** Whoever chose the time, the report says whether it is the present. */
function timeOf(now: number): Pick<Report, 'verifiedAt' | 'verifiedNow'> {
  return { verifiedAt: now, verifiedNow: Math.abs(now - Date.now() / 1000) <= NOW_SECONDS };
}

function finite(time: number): number | undefined {
  return Number.isFinite(time) ? time : undefined;
}
