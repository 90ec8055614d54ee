import {
  bootInfo,
  type Check,
  CheckRecorder,
  type DcapResult,
  inspectAttestation,
  inspectOsImage,
  type PlatformResult,
  type VerifiedAttestation,
  type VerifyContext,
  type VerifyOptions,
  verifyContext,
} from '@dstack-cloud/attestation';
import { equalBytes, toHex, utf8 } from '@dstack-cloud/encoding';
import type { Evidence } from '../evidence/evidence.ts';
import { appInfoOf } from './app-info.ts';
import type { Findings } from './findings.ts';

type AttestationEvidence = Extract<Evidence, { kind: 'attestation' }>;

/** What is known so far, told as it becomes known: a report of refused evidence shows it too. */
export interface Progress {
  checks(checks: readonly Check[]): void;
  /** The evidence is genuine and bound; its image is not yet verified. */
  verified(result: PlatformResult): void;
}

/** A whole attestation: evidence, then its OS image, then what is derived from both. */
export async function verifyDstackEvidence(
  evidence: AttestationEvidence,
  options: VerifyOptions,
  progress: Progress,
): Promise<Findings> {
  const { attestation, ratlsSpki, vmConfig } = evidence;
  const inspection = await inspectAttestation(attestation, {
    ...options,
    // A certificate's log need not be complete (docs/protocol/evidence.md section 7.1).
    ...(ratlsSpki ? { ratlsSpki, platform: { ...options.platform, tdxBootEventReplay: false } } : {}),
  });
  progress.checks(inspection.checks);
  if (!inspection.ok) throw inspection.error;
  const { verified } = inspection;
  progress.verified(verified);
  const beside = vmConfig === undefined ? {} : { vmConfig };
  if (!isWithoutConfig(evidence, verified)) {
    const image = await inspectOsImage(verified, {
      ...beside,
      ...(options.crypto ? { crypto: options.crypto } : {}),
    });
    progress.checks(image.checks);
    if (!image.ok) throw image.error;
  }
  const derived = new CheckRecorder();
  const info = await derived
    .step('app.info', 'docs/protocol/verification.md section 8', () =>
      bootInfo(verified, { bootTime: false, ...beside }),
    )
    .finally(() => progress.checks(derived.checks));
  if (evidence.appCompose !== undefined) {
    checkAppCompose(evidence.appCompose, info.composeHash, verifyContext(options), progress);
  }
  const dcap = dcapOf(verified);
  return {
    simulated: verified.simulated,
    tcbStatus: verified.tcbStatus,
    advisoryIds: verified.advisoryIds,
    registers: verified.registers,
    ...(verified.snp ? { snp: verified.snp } : {}),
    validFrom: verified.validFrom,
    validUntil: verified.validUntil,
    reportData: verified.reportData,
    appInfo: appInfoOf(info, verified),
    tcbEvaluationDataNumber: dcap?.tcbEvaluationDataNumber,
    tcbDate: dcap?.tcbDate,
  };
}

/** Whoever shows a compose file beside evidence may show another one than the machine measured. */
function checkAppCompose(
  text: string,
  measured: Uint8Array,
  { crypto }: VerifyContext,
  progress: Progress,
): void {
  const recorder = new CheckRecorder();
  const shown = crypto.hash('sha256', utf8(text));
  try {
    recorder.require(equalBytes(shown, measured), {
      id: 'app.compose',
      reference: 'docs/attestation.md',
      code: 'mismatch',
      message: 'The compose file beside the evidence is not the one that was measured',
      expected: toHex(measured),
      found: toHex(shown),
    });
  } finally {
    progress.checks(recorder.checks);
  }
}

/**
 * RA-TLS certificates of bare TDX may carry quote and log alone, without any configuration (docs/protocol/evidence.md
 * section 7): such evidence names no image that could be verified, as a bare quote does not; its os_image_hash is empty.
 */
function isWithoutConfig(evidence: AttestationEvidence, { config, mode }: VerifiedAttestation): boolean {
  return evidence.ratlsSpki !== undefined && mode === 'dstack-tdx' && config.trim() === '';
}

function dcapOf({ evidence }: VerifiedAttestation): DcapResult | undefined {
  if (evidence.kind === 'tdx') return evidence.dcap;
  return evidence.kind === 'gcp-tdx' ? evidence.tdx.dcap : undefined;
}
