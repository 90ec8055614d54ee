import { equalBytes, isZero, toHex, utf8 } from '@dstack-cloud/encoding';
import type { Attestation, NitroAttestationQuote } from '../attestation.ts';
import { requireExpectedReportData } from '../expected-report-data.ts';
import { pcrOf } from '../measurements/pcr.ts';
import type { PlatformResult, VerifyContext } from '../verify-context.ts';
import { type VerifiedDocument, verifyNitroDocument } from './verify-document.ts';

/** The whole image, kernel and boot ramdisk, application (docs/protocol/verification.md section 8.3). */
const IMAGE_PCRS = [0, 1, 2];
const SECTION = 'docs/protocol/verification.md section 5';

/** dstack-nitro-enclave: the document, its binding to report_data, and no debug enclave. */
export async function verifyNitro(attestation: Attestation, context: VerifyContext): Promise<PlatformResult> {
  const { nsmQuote } = attestation.quote as NitroAttestationQuote;
  const verified = await verifyNitroDocument(nsmQuote, 'nsm', context, (found) => {
    requireUserData(found, attestation.reportData, context);
    requireImagePcrs(found, context);
    requireExpectedReportData(attestation.reportData, context);
  });
  return nitroResult(verified, context);
}

/**
 * Refuses debug enclaves (docs/protocol/verification.md section 5 step 7). @returns whether it is one that is allowed
 */
export function requireImagePcrs({ document }: VerifiedDocument, context: VerifyContext): boolean {
  const missing = IMAGE_PCRS.filter((index) => !document.pcrs.has(index));
  context.checks.require(missing.length === 0, {
    id: 'nitro.image-pcrs',
    reference: `${SECTION} step 7`,
    code: 'malformed',
    message: `PCR ${missing.join(', ')} missing from the attestation document`,
    expected: '0,1,2',
    found: [...document.pcrs.keys()].join(','),
  });
  const debug = IMAGE_PCRS.some((index) => isZero(pcrOf(document.pcrs, index)));
  const allowed = context.options.platform?.dangerouslyAllowDebugEnclave === true;
  context.checks.require(!debug || allowed, {
    id: 'nitro.debug',
    reference: `${SECTION} step 7`,
    code: 'debug',
    message: 'Nitro enclave in debug mode: PCR 0, 1 or 2 is zero',
    expected: 'PCR 0, 1 and 2 set',
    found: 'zero',
  });
  return debug;
}

/** What a verified NSM document says; refuses debug enclaves. */
export function nitroResult(verified: VerifiedDocument, context: VerifyContext): PlatformResult {
  const { document, path } = verified;
  const debug = requireImagePcrs(verified, context);
  return {
    simulated: path.anchor.simulated,
    reportData: document.userData ?? new Uint8Array(0),
    tcbStatus: '',
    advisoryIds: [],
    rawDeviceId: utf8(legacyDeviceId(document.moduleId)),
    registers: pcrRegisters(document.pcrs),
    validFrom: verified.validFrom,
    validUntil: verified.validUntil,
    evidence: {
      kind: 'nitro',
      moduleId: document.moduleId,
      timestamp: document.timestamp,
      pcrs: document.pcrs,
      debug,
    },
  };
}

/**
 * user_data must be there and be the report data of the attestation (docs/protocol/verification.md section 5 step 6).
 */
export function requireUserData(
  { document }: VerifiedDocument,
  reportData: Uint8Array,
  { checks }: VerifyContext,
): void {
  const { userData } = document;
  checks.require(userData !== undefined && equalBytes(userData, reportData), {
    id: 'nitro.user-data',
    reference: `${SECTION} step 6`,
    code: 'mismatch',
    message: userData ? 'user_data is not the report data' : 'The attestation document has no user_data',
    expected: toHex(reportData),
    found: userData ? toHex(userData) : 'none',
  });
}

/**
 * What the original takes for the instance id: it cuts at the FIRST dash, so that every enclave is the letter
 * `i`. Registrations on chain hold its hash; the true id is in the evidence (docs/protocol/verification.md section
 * 8.3).
 */
function legacyDeviceId(moduleId: string): string {
  const dash = moduleId.indexOf('-');
  return dash < 0 ? moduleId : moduleId.slice(0, dash);
}

/** Registers by name, `pcr0` and so on. */
export function pcrRegisters(pcrs: ReadonlyMap<number, Uint8Array>): Record<string, Uint8Array> {
  return Object.fromEntries(
    [...pcrs].sort(([a], [b]) => a - b).map(([index, value]) => [`pcr${index}`, value]),
  );
}
