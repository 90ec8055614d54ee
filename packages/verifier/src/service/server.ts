import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { VerifyOptions } from '@dstack-cloud/attestation';
import { HttpError } from './http-error.ts';
import type { Metrics } from './metrics.ts';
import { readBody } from './read-body.ts';
import { parseVerifyRequest } from './request.ts';
import type { Response } from './response.ts';
import { verifyRequest } from './verify-request.ts';

/** Time in which a client must have sent its whole request. */
const REQUEST_TIMEOUT_MS = 30_000;

export interface ServiceOptions {
  readonly verify: Omit<VerifyOptions, 'now'>;
  /** Unix seconds. */
  readonly now: () => number;
  /** Verifications at the same time; more are told to come back. */
  readonly maxConcurrency: number;
  readonly metrics: Metrics;
  /** One line for each verdict; never evidence. */
  readonly log: (fields: Readonly<Record<string, unknown>>, message: string) => void;
}

/** The HTTP service of chapter 20 section 8: /verify, /health, /metrics. */
export function createService(options: ServiceOptions): Server {
  const state = { running: 0 };
  const server = createServer((request, response) => {
    answer(request, options, state)
      .catch((error: unknown) => failure(error, options))
      .then(({ status, type, body, headers }) => {
        options.metrics.request(status);
        send(response, request, status, type, body, headers);
      })
      .catch((error: unknown) => {
        options.log({ error: String(error) }, 'Answer could not be sent');
        response.destroy();
      });
  });
  server.requestTimeout = REQUEST_TIMEOUT_MS;
  server.headersTimeout = REQUEST_TIMEOUT_MS;
  return server;
}

interface Answer {
  readonly status: number;
  readonly type: string;
  readonly body: string;
  readonly headers?: Readonly<Record<string, string>>;
}

async function answer(
  request: IncomingMessage,
  options: ServiceOptions,
  state: { running: number },
): Promise<Answer> {
  const path = (request.url ?? '/').split('?')[0];
  const get = request.method === 'GET' || request.method === 'HEAD';
  if (get && path === '/health') return json(200, { status: 'ok', service: 'dstack-verifier' });
  if (get && path === '/metrics') {
    return { status: 200, type: options.metrics.contentType, body: await options.metrics.text() };
  }
  if (request.method === 'POST' && path === '/verify') return verifyAnswer(request, options, state);
  throw new HttpError(404, 'not-found', 'No such path or method');
}

async function verifyAnswer(
  request: IncomingMessage,
  options: ServiceOptions,
  state: { running: number },
): Promise<Answer> {
  if (state.running >= options.maxConcurrency) {
    throw new HttpError(503, 'busy', 'Too many verifications at once; try again');
  }
  state.running++;
  const end = options.metrics.start();
  try {
    const parsed = parseVerifyRequest(await readBody(request));
    const result = await verifyRequest(parsed, { ...options.verify, now: options.now() });
    const mode = result.details['tee_variant'];
    end(typeof mode === 'string' ? mode : 'unknown', result.code ?? 'valid');
    options.log(verdictFields(result), 'Verdict');
    return json(200, result);
  } finally {
    state.running--;
  }
}

function verdictFields(result: Response): Record<string, unknown> {
  return {
    valid: result.is_valid,
    mode: result.details['tee_variant'],
    tcb: result.details['tcb_status'],
    code: result.code,
    check: result.checks.find((check) => !check.ok)?.id,
    simulated: result.simulated,
  };
}

function failure(error: unknown, options: ServiceOptions): Answer {
  if (error instanceof HttpError) {
    const retry = error.status === 503 ? { 'retry-after': '1' } : {};
    return { ...json(error.status, { error: { code: error.code, message: error.message } }), headers: retry };
  }
  options.log(
    { error: error instanceof Error ? (error.stack ?? error.message) : String(error) },
    'Unexpected error',
  );
  return json(500, { error: { code: 'internal', message: 'Internal error' } });
}

function json(status: number, value: unknown): Answer {
  return { status, type: 'application/json', body: JSON.stringify(value) };
}

function send(
  response: ServerResponse,
  request: IncomingMessage,
  status: number,
  type: string,
  body: string,
  headers: Readonly<Record<string, string>> = {},
): void {
  // A request whose body was not read to its end leaves nothing usable on the connection.
  if (!request.complete) response.setHeader('connection', 'close');
  response.writeHead(status, {
    'content-type': type,
    'content-length': String(Buffer.byteLength(body)),
    'x-content-type-options': 'nosniff',
    ...headers,
  });
  response.end(request.method === 'HEAD' ? undefined : body);
}
