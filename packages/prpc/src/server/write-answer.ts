import type { IncomingMessage, ServerResponse } from 'node:http';
import { countRefusal } from './connections/connection-guard.ts';
import type { PlainResponse } from './options.ts';

/** The original's framework adds these to each answer on every listener (docs/protocol/kms.md section 1.5). */
const COMMON_HEADERS: Readonly<Record<string, string>> = {
  'X-Content-Type-Options': 'nosniff',
  'X-Frame-Options': 'SAMEORIGIN',
  'Permissions-Policy': 'interest-cohort=()',
};

/** Headers of every answer of a handler, computed once. */
export function answerHeaders(extra: Readonly<Record<string, string>> | undefined): string[] {
  return Object.entries({ ...COMMON_HEADERS, ...extra }).flat();
}

/**
 * Sends one whole answer: always with Content-Length, never chunked, because the JavaScript SDK reads nothing
 * else. HEAD gets the headers alone.
 */
export function writeAnswer(
  request: IncomingMessage,
  response: ServerResponse,
  common: readonly string[],
  answer: PlainResponse,
): void {
  if (response.headersSent || response.destroyed) return;
  const { body, status = 200 } = answer;
  const length = typeof body === 'string' ? Buffer.byteLength(body) : body.length;
  // Nothing has no type, unless its sender gives it one.
  const type = answer.type ?? (length === 0 ? undefined : 'text/plain; charset=utf-8');
  const headers = [
    ...(type === undefined ? [] : ['Content-Type', type]),
    ...common,
    'Content-Length',
    String(length),
  ];
  for (const [name, value] of Object.entries(answer.headers ?? {})) headers.push(name, value);
  if (status >= 400 && countRefusal(request) && answer.headers?.['Connection'] === undefined) {
    headers.push('Connection', 'close');
  }
  response.writeHead(status, headers);
  if (request.method === 'HEAD') response.end();
  // Node puts headers and a string into one write; ASCII needs no conversion.
  else if (typeof body === 'string') response.end(body, length === body.length ? 'latin1' : 'utf8');
  else response.end(body);
}
