import { escapeNonAscii } from '@dstack-cloud/encoding';
import type { PlainResponse } from '@dstack-cloud/prpc';

/** A JSON answer, ASCII only as every answer of the agent. */
export function jsonAnswer(value: unknown): PlainResponse {
  return { type: 'application/json', body: escapeNonAscii(JSON.stringify(value)) };
}

/** An error in the form of the RPC errors. */
export function jsonError(status: number, error: string): PlainResponse {
  return { status, type: 'application/json', body: escapeNonAscii(JSON.stringify({ error }, null, 2)) };
}
