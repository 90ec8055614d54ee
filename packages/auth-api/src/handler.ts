import type { IncomingMessage, ServerResponse } from 'node:http';
import { performance } from 'node:perf_hooks';
import { toHex } from '@dstack-cloud/encoding';
import { type BootInfo, type BootKind, type Policy, PolicyError } from '@dstack-cloud/policy';
import { countRefusal, FairTurns } from '@dstack-cloud/prpc';
import type { Logger } from 'pino';
import { AuthApiError } from './errors.ts';
import { type Metrics, resultOf } from './metrics.ts';
import { readQuestion } from './read-question.ts';

/** What a network that has spent what it may cost is told to wait. */
const RETRY_AFTER_SECONDS = '6';

/** What the routes work with. */
export type Services = { readonly policy: Policy; readonly metrics: Metrics; readonly log: Logger };

type Reply = { readonly status: number; readonly body: unknown; readonly text?: string };
/** @param turns who may have the thread next, for what takes it for long */
type Route = (services: Services, request: IncomingMessage, turns: FairTurns) => Promise<Reply>;

const routes: Readonly<Record<string, Route>> = {
  'GET /': describe,
  'POST /bootAuth/app': (services, request, turns) => bootAuth(services, request, turns, 'app'),
  'POST /bootAuth/kms': (services, request, turns) => bootAuth(services, request, turns, 'kms'),
  'GET /health': async () => ({ status: 200, body: undefined, text: 'OK' }),
  'GET /metrics': async ({ metrics }) => ({
    status: 200,
    body: undefined,
    text: await metrics.registry.metrics(),
  }),
};

/** The request handler of the service (docs/protocol/contracts.md section 7). It always answers and never throws. */
export function createHandler(
  services: Services,
): (request: IncomingMessage, response: ServerResponse) => void {
  const turns = new FairTurns();
  return (request, response) => {
    void reply(services, request, turns).then(
      ({ status, body, text }) => send(request, response, status, body, text),
      (error: unknown) => {
        services.log.error({ err: error }, 'Request failed');
        send(request, response, 500, { status: 'error', message: 'internal error' });
      },
    );
  };
}

async function reply(services: Services, request: IncomingMessage, turns: FairTurns): Promise<Reply> {
  const path = (request.url ?? '').split('?')[0] ?? '';
  // A HEAD is a GET whose body is not sent: container health checks ask so.
  const name = `${request.method === 'HEAD' ? 'GET' : request.method} ${path}`;
  const route = Object.hasOwn(routes, name) && routes[name];
  if (route) return await route(services, request, turns);
  return {
    status: 404,
    body: { status: 'error', message: `no ${request.method} ${path.slice(0, 100)} here` },
  };
}

async function describe({ policy, log }: Services): Promise<Reply> {
  try {
    const info = await policy.describe();
    const implementation = info.appImplementation ?? '';
    const body = {
      status: 'ok',
      kmsContractAddr: info.kmsContract ?? '',
      gatewayAppId: info.gatewayAppId ?? '',
      chainId: info.chainId ?? 0,
      // The first name is the older one; clients of both generations exist.
      appAuthImplementation: implementation,
      appImplementation: implementation,
      ...(info.ethRpcUrl === undefined ? {} : { ethRpcUrl: info.ethRpcUrl }),
    };
    return { status: 200, body };
  } catch (error) {
    logBackendFailure(log, error);
    return { status: 500, body: { status: 'error', message: 'authorization backend unavailable' } };
  }
}

async function bootAuth(
  services: Services,
  request: IncomingMessage,
  turns: FairTurns,
  kind: BootKind,
): Promise<Reply> {
  const { policy, metrics, log } = services;
  const started = performance.now();
  const done = (result: Parameters<Metrics['decided']>[1]): void =>
    metrics.decided(kind, result, (performance.now() - started) / 1_000);
  try {
    const facts = await readQuestion(request, turns);
    const decision = await policy.authorize(kind, facts);
    done(resultOf(decision));
    const { allowed, reason, gatewayAppId } = decision;
    if (!allowed) log.warn({ kind, reason, ...identity(facts) }, 'measurement not authorized');
    return { status: 200, body: { isAllowed: allowed, reason, gatewayAppId } };
  } catch (error) {
    if (isInvalid(error)) {
      const isLimited = error.code === 'too-many-requests';
      done(isLimited ? 'turned-away' : 'invalid');
      const status = isLimited ? 429 : error.code === 'body-too-large' ? 413 : 400;
      // The reason is the original's; the message says which field.
      return { status, body: { ...denied('invalid authorization request'), message: error.message } };
    }
    done('failed');
    logBackendFailure(log, error);
    // 200, as every generation answers: the caller reads isAllowed.
    return { status: 200, body: denied('authorization backend unavailable') };
  }
}

function denied(reason: string): { isAllowed: false; reason: string; gatewayAppId: string } {
  return { isAllowed: false, reason, gatewayAppId: '' };
}

function isInvalid(error: unknown): error is AuthApiError | PolicyError {
  return error instanceof AuthApiError || (error instanceof PolicyError && error.code === 'invalid-request');
}

function identity(facts: BootInfo): Record<string, string> {
  const { appId, instanceId, composeHash, osImageHash, deviceId, mrAggregated } = facts;
  const ids = { appId, instanceId, composeHash, osImageHash, deviceId, mrAggregated };
  return Object.fromEntries(Object.entries(ids).map(([name, bytes]) => [name, toHex(bytes)]));
}

function logBackendFailure(log: Logger, error: unknown): void {
  const detail = error instanceof PolicyError ? (error.detail ?? error.message) : undefined;
  if (detail === undefined) log.error({ err: error }, 'Authorization backend failed');
  else log.error({ detail }, 'Authorization backend failed');
}

function send(
  request: IncomingMessage,
  response: ServerResponse,
  status: number,
  body: unknown,
  text?: string,
): void {
  if (response.headersSent || response.destroyed) return;
  const bytes = Buffer.from(text ?? JSON.stringify(body));
  const mustEnd = status >= 400 && countRefusal(request);
  response.writeHead(status, {
    'content-type': text === undefined ? 'application/json; charset=utf-8' : 'text/plain; charset=utf-8',
    'content-length': bytes.length,
    'cache-control': 'no-store',
    // RFC 9110 section 10.2.3.
    ...(status === 429 ? { 'retry-after': RETRY_AFTER_SECONDS } : {}),
    // A body that was not read to its end must not become the next request.
    ...(mustEnd || !request.complete ? { connection: 'close' } : {}),
  });
  response.end(bytes);
}
