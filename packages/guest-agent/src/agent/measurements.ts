import { createHash } from 'node:crypto';
import {
  type Attestation,
  type DerivedFrom,
  type DerivedValues,
  gcpTdxValues,
  parseTdxQuote,
  type TdReport,
  tdxValues,
} from '@dstack-cloud/attestation';
import { GuestError } from '../errors.ts';

/** The TD report inside a TDX attestation. @throws GuestError `not-available` on other platforms */
export function tdReportOf(attestation: Attestation): TdReport {
  const { quote } = attestation;
  const td = 'quote' in quote ? parseTdxQuote(quote.quote).td : undefined;
  if (td === undefined) {
    throw new GuestError('not-available', `Measurements of ${quote.mode} are not available in this guest`);
  }
  return td;
}

/** `mr_system` and `mr_aggregated` by the rules of the platform (docs/protocol/verification.md section 8.2). */
export function derivedValues(
  { quote, runtimeEvents }: Attestation,
  td: TdReport,
  { osImageHash, keyProviderInfo }: { osImageHash: Uint8Array; keyProviderInfo: Uint8Array },
): DerivedValues {
  const from: DerivedFrom = { runtimeEvents, keyProviderInfo };
  if (quote.mode !== 'dstack-gcp-tdx') return tdxValues(td, from);
  const pcrs = new Map(quote.tpmQuote.pcrValues.map(({ index, value }) => [index, value]));
  return gcpTdxValues(pcrs, osImageHash, from);
}

/** device_id without a verified attestation: the platform id is unknown, so it is the hash of nothing. */
export const UNVERIFIED_DEVICE_ID: Uint8Array = new Uint8Array(createHash('sha256').digest());
