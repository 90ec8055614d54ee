import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { AttestationError, type CollateralVendor, type VerifyOptions } from '@dstack-cloud/attestation';
import {
  BodyBudget,
  ConcurrencyLimiter,
  type ConnectionLimits,
  configureServer,
  countRefusal,
  FairTurns,
  LineBudget,
  networkOf,
  RpcError,
  takeToll,
} from '@dstack-cloud/prpc';
import { bodyOf } from './body-of.ts';
import { HttpError } from './http-error.ts';
import type { Metrics } from './metrics.ts';
import { parseVerifyRequest } from './request.ts';
import type { Response } from './response.ts';
import { verifyRequest } from './verify-request.ts';

/** A body has 1 MiB at most: whoever sends it has time for that, and no more. */
const TIMES = { requestTimeout: 10_000, headersTimeout: 5_000 };
/**
 * Large bodies that have come, in part or whole, and are not verified yet; one network may have a quarter. Reading one
 * takes several milliseconds, in which nobody else is served. Evidence of real machines has less than 64 KiB.
 */
const MAX_HELD_BYTES = 16 * 2 ** 20;
/** What a request to a vendor costs the network whose evidence causes it, where a connection costs 1. */
const COLLATERAL_COST = 50;
const LIMITS: Partial<ConnectionLimits> = { costPerMinute: 6_000, costBurst: 2_000 };

export interface ServiceOptions {
  readonly verify: Omit<VerifyOptions, 'now'>;
  /** Unix seconds. */
  readonly now: () => number;
  /** Verifications at the same time, half of them of one network; some more wait, the rest is told to come back. */
  readonly maxConcurrency: number;
  readonly connections?: Partial<ConnectionLimits>;
  readonly metrics: Metrics;
  /** One line for each verdict, within bounds; never evidence. */
  readonly log: (fields: Readonly<Record<string, unknown>>, message: string) => void;
}

/** What the requests of one service share. */
interface Shared {
  readonly options: ServiceOptions;
  readonly limiter: ConcurrencyLimiter;
  readonly turns: FairTurns;
  readonly bodies: BodyBudget;
  /** Writes a line, unless its source has caused many like it: those are counted, and told in one line. */
  readonly say: (source: string, fields: Readonly<Record<string, unknown>>, message: string) => void;
}

/** The HTTP service of the original: /verify, /health, /metrics. */
export function createService(options: ServiceOptions): Server {
  const lines = new LineBudget(({ message, ...heldBack }) =>
    options.log({ ...heldBack, held_back: message }, 'log lines held back'),
  );
  const shared: Shared = {
    options,
    limiter: new ConcurrencyLimiter(options.maxConcurrency),
    turns: new FairTurns(),
    bodies: new BodyBudget(MAX_HELD_BYTES),
    say: (source, fields, message) => {
      const isGood = fields['valid'] === true;
      const reason = String(fields['code'] ?? fields['error'] ?? fields['reason'] ?? '');
      // Good verdicts have a bound of their own, and one line each as long as that lasts.
      if (lines.takes(isGood ? `${message} (valid)` : message, isGood ? '' : source, reason))
        options.log({ source, ...fields }, message);
    },
  };
  const server = createServer((request, response) => {
    answer(request, response, shared)
      .catch((error: unknown) => failure(error, request, shared))
      .then((made) => {
        options.metrics.request(made.status);
        send(response, request, made);
      })
      .catch((error: unknown) => {
        shared.say(sourceOf(request), { error: String(error) }, 'Answer could not be sent');
        response.destroy();
      });
  });
  const refused = (message: string) => (reason: string, address: string) => {
    options.metrics.connectionRefused(reason);
    shared.say(networkOf(address), { reason }, message);
  };
  configureServer(server, {
    ...LIMITS,
    ...options.connections,
    onTurnedAway: refused('Connection turned away'),
    onCut: refused('Connection cut'),
  });
  server.on('close', () => lines.flush());
  return Object.assign(server, TIMES);
}

interface Answer {
  readonly status: number;
  readonly type: string;
  readonly body: string;
  readonly headers?: Readonly<Record<string, string>>;
}

async function answer(request: IncomingMessage, response: ServerResponse, shared: Shared): Promise<Answer> {
  const path = (request.url ?? '/').split('?')[0];
  const get = request.method === 'GET' || request.method === 'HEAD';
  if (get && path === '/health') return json(200, { status: 'ok', service: 'dstack-verifier' });
  if (get && path === '/metrics') {
    const { metrics } = shared.options;
    return { status: 200, type: metrics.contentType, body: await metrics.text() };
  }
  if (request.method === 'POST' && path === '/verify') return verifyAnswer(request, response, shared);
  throw new HttpError(404, 'not-found', 'No such path or method');
}

/** A place is taken only once the body is there: who sends slowly, or not at all, keeps nobody waiting. */
async function verifyAnswer(
  request: IncomingMessage,
  response: ServerResponse,
  { options, limiter, turns, bodies, say }: Shared,
): Promise<Answer> {
  const source = sourceOf(request);
  const body = await bodyOf(request, bodies);
  bodies.count(source, body.length);
  try {
    return await limiter.run(source, async () => {
      await turns.next(source);
      // Nobody reads the answer.
      if (response.destroyed) throw new HttpError(400, 'not-json', 'The client is gone');
      const end = options.metrics.start();
      const permit = permitOf(request);
      const parsed = parseVerifyRequest(body);
      const result = await verifyRequest(parsed, { ...options.verify, permit, now: options.now() });
      const mode = result.details['tee_variant'];
      end(typeof mode === 'string' ? mode : 'unknown', result.code ?? 'valid');
      say(source, verdictFields(result), 'Verdict');
      return json(200, result);
    });
  } catch (error) {
    if (!(error instanceof RpcError)) throw error;
    throw new HttpError(503, 'busy', 'Too many verifications at once; try again');
  } finally {
    bodies.count(source, -body.length);
  }
}

/** Whoever shows evidence chooses what a vendor is asked for: one network cannot use up what all may ask. */
function permitOf(request: IncomingMessage): (vendor: CollateralVendor, requests: number) => void {
  return (vendor, requests) => {
    if (takeToll(request, requests * COLLATERAL_COST)) return;
    throw new AttestationError(
      'collateral-unavailable',
      `Too many requests for collateral of ${vendor}; try again later`,
    );
  };
}

function sourceOf({ socket }: IncomingMessage): string {
  return networkOf(socket.remoteAddress ?? '');
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

function failure(error: unknown, request: IncomingMessage, { say }: Shared): Answer {
  if (error instanceof HttpError) {
    const retry = error.status === 503 ? { 'retry-after': '1' } : {};
    return { ...json(error.status, { error: { code: error.code, message: error.message } }), headers: retry };
  }
  const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
  say(sourceOf(request), { error: text }, 'Unexpected error');
  return json(500, { error: { code: 'internal', message: 'Internal error' } });
}

function json(status: number, value: unknown): Answer {
  return { status, type: 'application/json', body: JSON.stringify(value) };
}

function send(
  response: ServerResponse,
  request: IncomingMessage,
  { status, type, body, headers }: Answer,
): void {
  if (response.headersSent || response.destroyed) return;
  const mustEnd = status >= 400 && countRefusal(request);
  // A request whose body was not read to its end leaves nothing usable on the connection.
  if (mustEnd || !request.complete) response.setHeader('connection', 'close');
  response.writeHead(status, {
    'content-type': type,
    'content-length': String(Buffer.byteLength(body)),
    'x-content-type-options': 'nosniff',
    ...headers,
  });
  response.end(request.method === 'HEAD' ? undefined : body);
}
