import {
  type Attestation,
  eventLogToJson,
  RUNTIME_EVENT_TYPE,
  runtimeEventDigest,
  type TdxEvent,
} from '@dstack-cloud/attestation';
import { equalBytes, utf8 } from '@dstack-cloud/encoding';

const NONE = new Uint8Array(0);
const ACPI_DATA = utf8('ACPI DATA');

/** Event log of an attestation; empty on platforms without a TDX log. */
export function tdxEvents(attestation: Attestation): readonly TdxEvent[] {
  return 'eventLog' in attestation.quote ? attestation.quote.eventLog : [];
}

/**
 * JSON text of the event log as GetQuote gives it: boot events without their payloads, runtime events whole and with
 * their digests, so that a client can replay every register (docs/protocol/guest-agent.md section 4.3; the original
 * empties digests).
 */
export function clientEventLog(events: readonly TdxEvent[]): string {
  return eventLogToJson(events.map(forClient), { strip: false });
}

function forClient(event: TdxEvent): TdxEvent {
  if (event.imr === 3 && event.eventType === RUNTIME_EVENT_TYPE) return withDigest(event);
  if (event.imr === 0 && equalBytes(event.eventPayload, ACPI_DATA)) return event;
  return { ...event, eventPayload: NONE };
}

function withDigest(event: TdxEvent): TdxEvent {
  if (event.digest.length > 0) return event;
  const { event: name, eventPayload: payload, version } = event;
  const runtime = version === undefined ? { event: name, payload } : { event: name, payload, version };
  return { ...event, digest: runtimeEventDigest(runtime, 'sha384') };
}
