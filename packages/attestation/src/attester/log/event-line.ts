import { fromBase64, toBase64, utf8, utf8Text } from '@dstack-cloud/encoding';
import type { RuntimeEvent } from '../../attestation.ts';
import { AttestationError } from '../../errors.ts';

/** Longest line of the log: name, payload in base64 and the JSON around them. */
const MAX_LINE = 1 << 20;
export const MAX_EVENTS = 65_536;

/** One line of the runtime event log, with its line end (docs/protocol/event-logs.md section 3.2). */
export function eventLine({ event, payload, version }: RuntimeEvent): string {
  // A lone surrogate has no UTF-8: what is hashed and what is logged would differ.
  if (utf8Text(utf8(event)) !== event)
    throw new AttestationError('malformed', 'Event name is not Unicode text');
  const line = JSON.stringify({ event, payload: toBase64(payload), ...(version ? { version } : {}) });
  if (line.length > MAX_LINE) throw new AttestationError('too-large', `Event "${event.slice(0, 64)}"`);
  return `${line}\n`;
}

/** All events of a log; blank lines are skipped. @throws AttestationError `event-log`, `too-large` */
export function parseEventLines(text: string): RuntimeEvent[] {
  const lines = text.split('\n').filter((line) => line.trim() !== '');
  if (lines.length > MAX_EVENTS) throw new AttestationError('too-large', `${lines.length} runtime events`);
  return lines.map(parseEventLine);
}

function parseEventLine(line: string, index: number): RuntimeEvent {
  const invalid = (cause?: unknown): AttestationError =>
    new AttestationError('event-log', `Line ${index + 1} of the runtime event log is no event`, { cause });
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch (cause) {
    throw invalid(cause);
  }
  if (typeof value !== 'object' || value === null) throw invalid();
  const { event, payload, version, ...rest } = value as Record<string, unknown>;
  if (typeof event !== 'string' || typeof payload !== 'string' || Object.keys(rest).length > 0)
    throw invalid();
  if (version !== undefined && version !== 2) throw invalid();
  try {
    return { event, payload: fromBase64(payload), ...(version === 2 ? { version } : {}) };
  } catch (cause) {
    throw invalid(cause);
  }
}
