import { createHash } from 'node:crypto';
import {
  type Attestation,
  parseTdxQuote,
  replayRuntimeEvents,
  type TdReport,
} from '@dstack-cloud/attestation';
import { isZero } from '@dstack-cloud/encoding';
import { GuestError } from '../errors.ts';

const sha256 = (...parts: Uint8Array[]): Uint8Array => {
  const hash = createHash('sha256');
  for (const part of parts) hash.update(part);
  return new Uint8Array(hash.digest());
};

/** The TD report inside a TDX attestation. @throws GuestError `not-available` on other platforms */
export function tdReportOf(attestation: Attestation): TdReport {
  const { quote } = attestation;
  const td = 'quote' in quote ? parseTdxQuote(quote.quote).td : undefined;
  if (td === undefined) {
    throw new GuestError('not-available', `Measurements of ${quote.mode} are not available in this guest`);
  }
  return td;
}

/** mr_aggregated of bare TDX (docs/protocol/verification.md section 8.2), 32 bytes; RTMR3 is the replay of the log. */
export function mrAggregated(td: TdReport, attestation: Attestation): Uint8Array {
  const owner = [td.mrConfigId, td.mrOwner, td.mrOwnerConfig];
  const replayed = replayRuntimeEvents(attestation.runtimeEvents, 'sha384');
  const [rtmr0, rtmr1, rtmr2] = td.rtmrs;
  return sha256(td.mrTd, rtmr0, rtmr1, rtmr2, replayed, ...(owner.every(isZero) ? [] : owner));
}

/** mr_system of bare TDX (docs/protocol/verification.md section 8.2), 32 bytes. */
export function mrSystem(td: TdReport, keyProviderInfo: Uint8Array): Uint8Array {
  const provider = keyProviderInfo.length === 0 ? new Uint8Array(32) : sha256(keyProviderInfo);
  const [rtmr0, rtmr1, rtmr2] = td.rtmrs;
  return sha256(td.mrTd, rtmr0, rtmr1, rtmr2, provider);
}

/** device_id without a verified attestation: the platform id is unknown, so it is the hash of nothing. */
export const UNVERIFIED_DEVICE_ID: Uint8Array = sha256();
