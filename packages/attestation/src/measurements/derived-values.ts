import { concatBytes, isZero } from '@dstack-cloud/encoding';
import { defaultCrypto } from '#crypto';
import type { RuntimeEvent } from '../attestation.ts';
import { replayRuntimeEvents } from '../events/runtime-events.ts';
import type { TdReport } from '../tdx-quote/reports.ts';
import { pcrOf } from './pcr.ts';

/** What both are derived from, beside the registers. */
export interface DerivedFrom {
  readonly runtimeEvents: readonly RuntimeEvent[];
  /** Payload of the key-provider event; empty when there is none, or at boot time. */
  readonly keyProviderInfo: Uint8Array;
  /** The last event that counts. */
  readonly until?: string;
}

/** Both 32 bytes (docs/protocol/verification.md section 8.2). */
export interface DerivedValues {
  readonly mrSystem: Uint8Array;
  readonly mrAggregated: Uint8Array;
}

/** The rules of bare TDX. */
export function tdxValues(td: TdReport, from: DerivedFrom): DerivedValues {
  const mrs = [td.mrTd, td.rtmrs[0], td.rtmrs[1], td.rtmrs[2]];
  const configuration = [td.mrConfigId, td.mrOwner, td.mrOwnerConfig];
  const rtmr3 = replayed(from, 'sha384');
  return {
    mrSystem: sha256(...mrs, keyProviderHash(from)),
    mrAggregated: sha256(...mrs, rtmr3, ...(configuration.every(isZero) ? [] : configuration)),
  };
}

/** The rules of Google Cloud, where the vTPM measures the system. */
export function gcpTdxValues(
  pcrs: ReadonlyMap<number, Uint8Array>,
  osImageHash: Uint8Array,
  from: DerivedFrom,
): DerivedValues {
  return {
    mrSystem: sha256(osImageHash, keyProviderHash(from)),
    mrAggregated: sha256(pcrOf(pcrs, 0), pcrOf(pcrs, 2), replayed(from, 'sha256')),
  };
}

/** The key provider's part of `mr_system`. */
export function keyProviderHash({ keyProviderInfo }: Pick<DerivedFrom, 'keyProviderInfo'>): Uint8Array {
  return keyProviderInfo.length === 0 ? new Uint8Array(32) : sha256(keyProviderInfo);
}

function replayed({ runtimeEvents, until }: DerivedFrom, algorithm: 'sha256' | 'sha384'): Uint8Array {
  return replayRuntimeEvents(runtimeEvents, algorithm, until === undefined ? {} : { until });
}

function sha256(...parts: readonly Uint8Array[]): Uint8Array {
  return defaultCrypto.hash('sha256', concatBytes(...parts));
}
