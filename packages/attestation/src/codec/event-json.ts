import type { TdxEvent } from '../attestation.ts';
import { AttestationError } from '../errors.ts';

/** JSON text of an event log; with `strip` each event reduced as GetQuote does. */
export function eventLogToJson(_events: readonly TdxEvent[], _options: { strip: boolean }): string {
  throw new AttestationError('unsupported', 'not available');
}

/** @throws AttestationError `malformed`, `too-large` */
export function eventLogFromJson(_text: string): TdxEvent[] {
  throw new AttestationError('unsupported', 'not available');
}
