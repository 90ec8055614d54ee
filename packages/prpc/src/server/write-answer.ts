import type { IncomingMessage, ServerResponse } from 'node:http';
import type { PlainResponse } from './options.ts';

/** The original's framework adds these to each answer on every listener (chapter 10 section 1.5). */
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
  const body = typeof answer.body === 'string' ? Buffer.from(answer.body, 'utf8') : answer.body;
  const headers = [
    'Content-Type',
    answer.type ?? 'text/plain; charset=utf-8',
    ...common,
    'Content-Length',
    String(body.length),
  ];
  for (const [name, value] of Object.entries(answer.headers ?? {})) headers.push(name, value);
  response.writeHead(answer.status ?? 200, headers);
  if (request.method === 'HEAD') response.end();
  else response.end(body);
}
