import type { AttestationMode } from '../attestation.ts';
import { AttestationError } from '../errors.ts';
import type { VerifiedAttestation } from '../verify-context.ts';

/** Identities and measurements derived from verified evidence (chapter 20 section 6, chapter 10 section 5.1). */
export interface BootInfo {
  readonly mode: AttestationMode;
  readonly simulated: boolean;
  /** 20 bytes. */
  readonly appId: Uint8Array;
  /** 20 bytes or empty. */
  readonly instanceId: Uint8Array;
  /** 32 bytes. */
  readonly composeHash: Uint8Array;
  /** 32 bytes; empty when no configuration names one. */
  readonly osImageHash: Uint8Array;
  readonly keyProviderInfo: Uint8Array;
  /** 32 bytes. */
  readonly mrSystem: Uint8Array;
  readonly mrAggregated: Uint8Array;
  /** 32 bytes; on Nitro the value the original computes. */
  readonly deviceId: Uint8Array;
  /** 32 bytes, Nitro only: SHA-256 of the EC2 instance id. */
  readonly hostId?: Uint8Array;
  readonly tcbStatus: string;
  readonly advisoryIds: readonly string[];
}

export interface BootInfoOptions {
  /** Replay only up to `boot-mr-done`: true when a KMS signs certificates for an app. */
  readonly bootTime: boolean;
  /** Configuration that came beside the attestation; used only when the attestation carries none. */
  readonly vmConfig?: string;
}

/** @throws AttestationError `event-log` when a required event is missing or malformed, `malformed` for a bad configuration */
export function bootInfo(_verified: VerifiedAttestation, _options: BootInfoOptions): BootInfo {
  throw new AttestationError('unsupported', 'not available');
}
