import type { RuntimeEvent } from '../attestation.ts';
import { AttestationError } from '../errors.ts';

/** Type of every runtime event. */
export const RUNTIME_EVENT_TYPE = 0x08000001;

/** Digest that extends RTMR3 (sha384) or PCR 14 (sha256; sha384 on NitroTPM). */
export function runtimeEventDigest(_event: RuntimeEvent, _algorithm: 'sha384' | 'sha256'): Uint8Array {
  throw new AttestationError('unsupported', 'not available');
}

/** Replays events from a zero register; with `until`, stops after the first event of that name. */
export function replayRuntimeEvents(
  _events: readonly RuntimeEvent[],
  _algorithm: 'sha384' | 'sha256',
  _options: { until?: string } = {},
): Uint8Array {
  throw new AttestationError('unsupported', 'not available');
}

/** Payload of the first event of that name before `system-ready`; undefined when there is none. */
export function findEvent(_events: readonly RuntimeEvent[], _name: string): Uint8Array | undefined {
  throw new AttestationError('unsupported', 'not available');
}
