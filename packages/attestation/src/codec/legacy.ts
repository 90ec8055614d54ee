import type { Attestation, RuntimeEvent } from '../attestation.ts';
import { AttestationError } from '../errors.ts';
import { RUNTIME_EVENT_TYPE } from '../events/runtime-events.ts';
import { parseTdxQuote } from '../tdx-quote/quote.ts';
import { eventLogFromJson } from './event-json.ts';

/**
 * A dstack-tdx attestation from a bare quote and its event log JSON: runtime events are those of the log, the
 * report data is the quote's (docs/protocol/evidence.md section 7).
 * @throws AttestationError `malformed`, `unsupported`, `too-large`
 */
export function attestationFromQuote(quote: Uint8Array, eventLog: string, config = ''): Attestation {
  const { td } = parseTdxQuote(quote);
  if (!td) throw new AttestationError('unsupported', 'The quote is not of a TD');
  const events = eventLogFromJson(eventLog);
  return {
    quote: { mode: 'dstack-tdx', quote, eventLog: events },
    runtimeEvents: events
      .filter((event) => event.eventType === RUNTIME_EVENT_TYPE)
      .map(
        (event): RuntimeEvent => ({
          event: event.event,
          payload: event.eventPayload,
          ...(event.version === undefined ? {} : { version: event.version }),
        }),
      ),
    reportData: td.reportData,
    config,
  };
}
