import { equalBytes, toHex, utf8 } from '@dstack-cloud/encoding';
import type { Attestation, NitroTpmAttestationQuote } from '../attestation.ts';
import { replayRuntimeEvents } from '../events/runtime-events.ts';
import { requireExpectedReportData } from '../expected-report-data.ts';
import { type VerifiedDocument, verifyNitroDocument } from '../nitro/verify-document.ts';
import { pcrRegisters, requireUserData } from '../nitro/verify-nitro.ts';
import { requireUntouched } from '../tpm/require-untouched.ts';
import type { PlatformResult, VerifyContext } from '../verify-context.ts';

const REQUIRED_PCRS = [4, 7, 12, 14];
const SECTION = 'docs/protocol/verification.md section 6';

/** dstack-aws-nitro-tpm: the document, its binding to report_data, and the runtime events in PCR 14. */
export async function verifyNitroTpm(
  attestation: Attestation,
  context: VerifyContext,
): Promise<PlatformResult> {
  const { attestationDoc } = attestation.quote as NitroTpmAttestationQuote;
  const verified = await verifyNitroDocument(attestationDoc, 'nitro-tpm', context, (found) =>
    requireBinding(found, attestation, context),
  );
  return nitroTpmResult(verified);
}

function requireBinding(verified: VerifiedDocument, attestation: Attestation, context: VerifyContext): void {
  requireUserData(verified, attestation.reportData, context);
  const { checks } = context;
  const { pcrs } = verified.document;
  const missing = REQUIRED_PCRS.filter((index) => !pcrs.has(index));
  checks.require(missing.length === 0, {
    id: 'nitro-tpm.pcrs',
    reference: SECTION,
    code: 'malformed',
    message: `PCR ${missing.join(', ')} missing from the attestation document`,
    expected: REQUIRED_PCRS.join(','),
    found: [...pcrs.keys()].join(','),
  });
  // PCR 4, 7 and 12 are in the digest that the image's document demands; PCR 13 is in no digest.
  requireUntouched(13, pcrs.get(13), [], checks);
  const replayed = replayRuntimeEvents(attestation.runtimeEvents, 'sha384');
  checks.require(equalBytes(replayed, pcrs.get(14)!), {
    id: 'nitro-tpm.pcr14',
    reference: SECTION,
    code: 'mismatch',
    message: 'PCR14 is not the replay of the runtime events',
    expected: toHex(pcrs.get(14)!),
    found: toHex(replayed),
  });
  requireExpectedReportData(attestation.reportData, context);
}

/** What a verified NitroTPM document says. AWS has no TCB levels: the original reports `UpToDate`. */
export function nitroTpmResult({ document, path, validFrom, validUntil }: VerifiedDocument): PlatformResult {
  return {
    simulated: path.anchor.simulated,
    reportData: document.userData ?? new Uint8Array(0),
    tcbStatus: 'UpToDate',
    advisoryIds: [],
    rawDeviceId: utf8(document.moduleId),
    registers: pcrRegisters(document.pcrs),
    validFrom,
    validUntil,
    evidence: {
      kind: 'nitro-tpm',
      moduleId: document.moduleId,
      timestamp: document.timestamp,
      pcrs: document.pcrs,
    },
  };
}
