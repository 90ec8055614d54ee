import { AttestationError } from '../errors.ts';

export interface BootLogEvent {
  /** MR index as in the log: PCR number, or 1..4 for RTMR 0..3. */
  readonly index: number;
  readonly type: number;
  readonly digests: ReadonlyMap<BootLogHash, Uint8Array>;
  readonly data: Uint8Array;
}

export type BootLogHash = 'sha1' | 'sha256' | 'sha384' | 'sha512';

export interface BootLog {
  /** Banks which the header declares. */
  readonly banks: readonly BootLogHash[];
  readonly events: readonly BootLogEvent[];
  /** Irregularities which do not stop the parser: zero padding, truncation. */
  readonly anomalies: readonly string[];
}

/** Parses a TCG2 log: CCEL or binary_bios_measurements (chapter 20 section 2.4). */
export function parseBootLog(_bytes: Uint8Array): BootLog {
  throw new AttestationError('unsupported', 'not available');
}
