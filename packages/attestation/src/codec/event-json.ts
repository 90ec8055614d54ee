import { EncodingError, fromHex, toHex } from '@dstack-cloud/encoding';
import type { TdxEvent } from '../attestation.ts';
import { AttestationError } from '../errors.ts';
import { stripEvent } from '../events/strip.ts';
import { JsonFields, parseJson } from '../json-fields.ts';
import { LIMITS } from './limits.ts';

const MAX_LOG_CHARACTERS = 4_194_304;

/**
 * JSON text of an event log (docs/protocol/evidence.md section 7.3); with `strip` each event reduced as GetQuote does.
 */
export function eventLogToJson(events: readonly TdxEvent[], options: { strip: boolean }): string {
  return JSON.stringify(events.map((event) => toJson(options.strip ? stripEvent(event) : event)));
}

/** Reads such a text. @throws AttestationError `malformed`, `unsupported`, `too-large` */
export function eventLogFromJson(text: string): TdxEvent[] {
  const list = parseJson(text, 'Event log', MAX_LOG_CHARACTERS);
  if (!Array.isArray(list)) throw new AttestationError('malformed', 'Event log is no JSON array');
  if (list.length > LIMITS.events) {
    throw new AttestationError('too-large', `Event log of ${list.length} events`);
  }
  return list.map((item, i) => fromJson(new JsonFields(item, `event_log[${i}]`)));
}

function toJson(event: TdxEvent): object {
  return {
    imr: event.imr,
    event_type: event.eventType,
    digest: toHex(event.digest),
    event: event.event,
    event_payload: toHex(event.eventPayload),
    ...(event.version === undefined ? {} : { version: event.version }),
    ...(event.preimage === undefined ? {} : { preimage: event.preimage }),
  };
}

function fromJson(fields: JsonFields): TdxEvent {
  return {
    imr: fields.integer('imr', 0xffffffff),
    eventType: fields.integer('event_type', 0xffffffff),
    digest: fields.has('digest') ? readHex(fields.text('digest')) : new Uint8Array(),
    event: fields.text('event'),
    eventPayload: readHex(fields.text('event_payload')),
    ...readVersion(fields),
    ...(fields.has('preimage') ? { preimage: fields.text('preimage') } : {}),
  };
}

function readVersion(fields: JsonFields): { version?: 2 } {
  if (!fields.has('version')) return {};
  const version = fields.integer('version');
  if (version === 2) return { version };
  throw new AttestationError('unsupported', 'Event version', {
    expected: 'absent or 2',
    found: `${version}`,
  });
}

function readHex(text: string): Uint8Array {
  try {
    return fromHex(text, { prefix: 'allow' });
  } catch (error) {
    if (!(error instanceof EncodingError)) throw error;
    throw new AttestationError('malformed', 'Event log holds bytes that are not hex', { cause: error });
  }
}
