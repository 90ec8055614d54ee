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
 * (docs/protocol/kms.md section 1.4).
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

/** JSON is preferred when it has the highest weight in the Accept header (RFC 9110 section 12.5.1), the first of equals. */
function prefersJson(accept: string | undefined): boolean {
  let best = { type: '', weight: 0 };
  for (const range of (accept ?? '').slice(0, 512).split(',')) {
    const [type = '', ...parameters] = range.split(';').map((part) => part.trim().toLowerCase());
    const quality = parameters.find((parameter) => parameter.startsWith('q='))?.slice(2);
    const weight = quality === undefined ? 1 : Number(quality);
    if (weight > best.weight) best = { type, weight };
  }
  return best.type === 'application/json';
}
