import { equalBytes, isZero, toHex } from '@dstack-cloud/encoding';
import type { CheckRecorder } from '../check-recorder.ts';
import type { TdxQuote } from '../tdx-quote/quote.ts';
import type { VerifyContext } from '../verify-context.ts';
import type { QeIdentity } from './qe-identity.ts';
import type { SvnLevel } from './tcb-info.ts';
import { svnLevel } from './tcb-level.ts';
import type { VerifiedPck } from './verify-pck.ts';

const STEP_8 = 'docs/protocol/verification.md section 2.2 step 8';

/**
 * Steps 6 to 8 of docs/protocol/verification.md section 2.2: the quoting enclave is Intel's, and vouches for the
 * attestation key.
 */
export async function verifyQe(
  quote: TdxQuote,
  pck: VerifiedPck,
  identity: QeIdentity,
  context: VerifyContext,
): Promise<SvnLevel> {
  const { checks, crypto, cache } = context;
  const report = quote.qeReport;
  // A platform's quotes share one QE report for as long as its attestation key lives.
  const { qeReportBytes, qeReportSignature } = quote;
  const isSigned = cache.verified(crypto, 'ecdsa-sha256', pck.spki, qeReportSignature, qeReportBytes);
  checks.require(await isSigned, {
    id: 'tdx.qe-report-signature',
    reference: 'docs/protocol/verification.md section 2.2 step 6',
    code: 'signature-invalid',
    message: 'The QE report is not signed by the PCK key',
  });

  const binding = crypto.hash('sha256', quote.attestationKey, quote.qeAuthData);
  const bound = report.reportData.subarray(0, 32);
  checks.require(equalBytes(binding, bound) && isZero(report.reportData.subarray(32)), {
    id: 'tdx.qe-report-binding',
    reference: 'docs/protocol/verification.md section 2.2 step 7',
    code: 'mismatch',
    message: 'The QE report does not bind the attestation key',
    expected: () => `${toHex(binding)} and 32 zero bytes`,
    found: () => toHex(report.reportData),
  });

  checks.require((report.attributes[0]! & 2) === 0, {
    id: 'tdx.qe-debug',
    reference: STEP_8,
    code: 'debug',
    message: 'The quoting enclave runs in debug mode',
    found: () => toHex(report.attributes),
  });
  requireEqual(checks, 'tdx.qe-mrsigner', identity.mrSigner, report.mrSigner);
  checks.require(identity.isvProdId === report.isvProdId, {
    id: 'tdx.qe-product',
    reference: STEP_8,
    code: 'mismatch',
    message: 'The quoting enclave is another product',
    expected: `${identity.isvProdId}`,
    found: `${report.isvProdId}`,
  });
  const misc = identity.miscSelectMask;
  requireEqual(
    checks,
    'tdx.qe-miscselect',
    masked(identity.miscSelect, misc),
    masked(report.miscSelect, misc),
  );
  const mask = identity.attributesMask;
  requireEqual(
    checks,
    'tdx.qe-attributes',
    masked(identity.attributes, mask),
    masked(report.attributes, mask),
  );
  return checks.step('tdx.qe-level', STEP_8, () =>
    svnLevel(identity.levels, report.isvSvn, 'quoting enclave'),
  );
}

function requireEqual(checks: CheckRecorder, id: string, expected: Uint8Array, found: Uint8Array): void {
  checks.require(equalBytes(expected, found), {
    id,
    reference: STEP_8,
    code: 'mismatch',
    message: 'The quoting enclave is not the one in the QE identity',
    expected: () => toHex(expected),
    found: () => toHex(found),
  });
}

function masked(bytes: Uint8Array, mask: Uint8Array): Uint8Array {
  return bytes.map((byte, i) => byte & mask[i]!);
}
