import type { IncomingMessage } from 'node:http';
import type { PlainResponse } from './options.ts';

const statuses: Record<number, { reason: string; description: string }> = {
  404: { reason: 'Not Found', description: 'The requested resource could not be found.' },
  422: {
    reason: 'Unprocessable Entity',
    description: 'The request was well-formed but was unable to be followed due to semantic errors.',
  },
  500: {
    reason: 'Internal Server Error',
    description: 'The server encountered an internal error while processing this request.',
  },
};

/**
 * Answers outside RPC: a small HTML page, or JSON when the caller prefers it. Here `error` is an object
 * (chapter 10 section 1.4, last row).
 */
export function frameworkAnswer(status: 404 | 422 | 500, request: IncomingMessage): PlainResponse {
  const { reason, description } = statuses[status]!;
  if (prefersJson(request.headers.accept)) {
    const body = JSON.stringify({ error: { code: status, reason, description } }, null, 2);
    return { status, type: 'application/json', body };
  }
  const title = `${status} ${reason}`;
  const body =
    `<!DOCTYPE html>\n<html lang="en">\n<head><meta charset="utf-8"><title>${title}</title></head>\n` +
    `<body>\n<h1>${title}</h1>\n<p>${description}</p>\n</body>\n</html>\n`;
  return { status, type: 'text/html; charset=utf-8', body };
}

/** JSON is preferred when it is the first concrete type of the Accept header. */
function prefersJson(accept: string | undefined): boolean {
  const first = (accept ?? '').slice(0, 256).split(',')[0]?.split(';')[0]?.trim().toLowerCase();
  return first === 'application/json';
}
