import { equalBytes, toHex, utf8 } from '@dstack-cloud/encoding';
import { defaultCrypto } from '#crypto';
import type { Attestation } from './attestation.ts';
import { type Check, CheckRecorder } from './check-recorder.ts';
import { attestedConfig } from './codec/attested-config.ts';
import { VerificationCache } from './crypto/verification-cache.ts';
import { AttestationError } from './errors.ts';
import { requireExpectedReportData, requireReportData } from './expected-report-data.ts';
import { PLATFORMS } from './platforms.ts';
import { reportData } from './report-data.ts';
import type { PlatformResult, VerifiedAttestation, VerifyContext, VerifyOptions } from './verify-context.ts';

/** Result of `inspectAttestation`; without `ok` the failing check is the last one. */
export type Inspection =
  | { readonly ok: true; readonly verified: VerifiedAttestation; readonly checks: readonly Check[] }
  | { readonly ok: false; readonly error: AttestationError; readonly checks: readonly Check[] };

const processCache = new VerificationCache();

/**
 * Verifies evidence: genuine, bound, consistent. Policy (TCB status, identities) is not asked.
 * @throws AttestationError naming the check that failed
 */
export async function verifyAttestation(
  attestation: Attestation,
  options: VerifyOptions,
): Promise<VerifiedAttestation> {
  return verifyEvidence(attestation, verifyContext(options));
}

/** As `verifyAttestation`, but a refusal is a value with the checks made so far, the failing one last. */
export async function inspectAttestation(
  attestation: Attestation,
  options: VerifyOptions,
): Promise<Inspection> {
  const context = verifyContext(options);
  const { checks } = context.checks;
  try {
    return { ok: true, verified: await verifyEvidence(attestation, context), checks };
  } catch (error) {
    if (error instanceof AttestationError) return { ok: false, error, checks };
    throw error;
  }
}

/** The context of one verification, for verifying a bare quote with `verifyDcap`. */
export function verifyContext(options: VerifyOptions): VerifyContext {
  return {
    options,
    now: options.now,
    roots: options.roots,
    collateral: options.collateral,
    crypto: options.crypto ?? defaultCrypto,
    cache: options.cache ?? processCache,
    checks: new CheckRecorder(),
  };
}

async function verifyEvidence(
  attestation: Attestation,
  context: VerifyContext,
): Promise<VerifiedAttestation> {
  checkTime(context);
  checkPodPayload(attestation, context);
  const result = await platformOf(attestation)(attestation, context);
  checkReportData(attestation, result, context);
  const config = await context.checks.step('config.form', 'docs/protocol/evidence.md section 6', () =>
    attestedConfig(attestation.config),
  );
  return {
    ...result,
    mode: attestation.quote.mode,
    attestation,
    runtimeEvents: attestation.runtimeEvents,
    config,
    checks: context.checks.checks,
  };
}

/** No comparison with NaN holds, and some rules are written as "refuse if": so the clock is checked first. */
function checkTime(context: VerifyContext): void {
  context.checks.require(Number.isFinite(context.now) && context.now > 0, {
    id: 'time',
    reference: 'docs/protocol/verification.md section 1.1',
    code: 'malformed',
    message: 'The time of verification is not a Unix time in seconds',
    found: String(context.now),
  });
}

function platformOf(attestation: Attestation) {
  const { mode } = attestation.quote;
  const verifier = PLATFORMS[mode];
  if (verifier) return verifier;
  throw new AttestationError('unsupported', `Evidence of mode ${mode} cannot be verified`, { found: mode });
}

/** docs/protocol/evidence.md section 4.1: before anything else. */
function checkPodPayload(attestation: Attestation, context: VerifyContext): void {
  if (attestation.reportDataPayload === undefined) return;
  const expected = reportData({ tag: 'app-data', content: utf8(attestation.reportDataPayload) });
  context.checks.require(equalBytes(expected, attestation.reportData), {
    id: 'pod.report-data',
    reference: 'docs/protocol/evidence.md section 4.1',
    code: 'mismatch',
    message: 'report_data does not match report_data_payload',
    expected: () => toHex(expected),
    found: () => toHex(attestation.reportData),
  });
}

/** What the hardware signed is what the attestation says, and binds what the caller asked for. */
function checkReportData(attestation: Attestation, result: PlatformResult, context: VerifyContext): void {
  requireReportData(
    'report-data',
    'docs/protocol/verification.md section 3',
    attestation.reportData,
    result.reportData,
    context,
  );
  requireExpectedReportData(result.reportData, context);
}
