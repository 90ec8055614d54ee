import { equalBytes, toHex } from '@dstack-cloud/encoding';
import { ratlsReportData } from './report-data.ts';
import type { VerifyContext } from './verify-context.ts';

/**
 * The report data binds what the caller asked for: an RA-TLS key, a challenge. Needs nobody to be asked, so the
 * platforms check it before they ask a vendor.
 * @param found what the evidence carries
 * @throws AttestationError `mismatch`
 */
export function requireExpectedReportData(
  found: Uint8Array,
  context: Pick<VerifyContext, 'checks' | 'options'>,
): void {
  const { ratlsSpki, expectedReportData } = context.options;
  const reference = 'docs/protocol/evidence.md section 2';
  if (ratlsSpki) requireReportData('ratls.binding', reference, ratlsReportData(ratlsSpki), found, context);
  if (expectedReportData) {
    requireReportData('report-data.expected', reference, expectedReportData, found, context);
  }
}

/** @throws AttestationError `mismatch` */
export function requireReportData(
  id: string,
  reference: string,
  expected: Uint8Array,
  found: Uint8Array,
  { checks }: Pick<VerifyContext, 'checks'>,
): void {
  const isEqual = equalBytes(expected, found);
  // A platform may have compared it already; the report says so once.
  if (isEqual && checks.checks.some((check) => check.id === id)) return;
  checks.require(isEqual, {
    id,
    reference,
    code: 'mismatch',
    message: 'The attested report data is another',
    expected: () => toHex(expected),
    found: () => toHex(found),
  });
}
