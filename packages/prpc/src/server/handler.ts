import type { IncomingMessage, ServerResponse } from 'node:http';
import type { DescMethod } from '@bufbuild/protobuf';
import { PrpcError, RpcError } from '../errors.ts';
import { networkOf } from './connections/network-of.ts';
import { decodeRequest, encodeError, encodeResponse, takesNothing, wantsJson } from './encoding.ts';
import { FairTurns } from './fair-turns.ts';
import { frameworkAnswer } from './framework-answer.ts';
import {
  DEFAULT_BODY_LIMIT,
  DEFAULT_BUFFERED_BYTES,
  type Mount,
  type PlainResponse,
  type PrpcHandlerOptions,
  type PublicError,
} from './options.ts';
import { BodyBudget, readBody } from './read-body.ts';
import { resolvePath, splitTarget } from './resolve-path.ts';
import { answerHeaders, writeAnswer } from './write-answer.ts';

type Method<C> = { desc: DescMethod; run: (request: unknown, context: C) => unknown };

/**
 * The request listener of one HTTP server: RPC methods at their mounts, plain routes beside them, and the
 * original's answers to everything else. It never throws and never leaves a request unanswered.
 */
export function createPrpcHandler<C = undefined>(
  options: PrpcHandlerOptions<C>,
): (request: IncomingMessage, response: ServerResponse) => void {
  const common = answerHeaders(options.headers);
  const budget = new BodyBudget(options.maxBufferedBytes ?? DEFAULT_BUFFERED_BYTES);
  const turns = new FairTurns();
  const tables = new Map(options.mounts.map((mount) => [mount, methodTable(mount)]));

  async function answer(
    request: IncomingMessage,
    response: ServerResponse,
  ): Promise<PlainResponse | 'handled'> {
    const verb = request.method ?? 'GET';
    if (options.guard !== undefined) {
      const refusal = await options.guard(request);
      if (refusal !== undefined) {
        options.onRefused?.(refusal.status ?? 200, request);
        return refusal;
      }
    }
    const { path, query } = splitTarget(request.url ?? '/');
    const resolved = resolvePath(verb, path, options.mounts, options.routes ?? []);
    if (resolved.kind === 'status') {
      options.onRefused?.(resolved.status, request);
      return frameworkAnswer(resolved.status, request);
    }
    if (resolved.kind === 'route') return resolved.route.handle(request, response, { path, query });
    return call(request, { verb, query, mount: resolved.mount, name: resolved.method });
  }

  async function call(
    request: IncomingMessage,
    { verb, query, mount, name }: { verb: string; query: string; mount: Mount<C>; name: string },
  ): Promise<PlainResponse> {
    const started = performance.now();
    const json = wantsJson(verb, query, request.headers['content-type']);
    const method = tables.get(mount)?.get(name);
    let failure: unknown;
    let result: PlainResponse;
    try {
      const context = options.before?.(request, { method: name, mount: mount.path });
      const ready = (context instanceof Promise ? await context : context) as C;
      if (method === undefined) {
        const status = mount.unknownMethodStatus ?? 400;
        throw new RpcError(`Service not found: ${name}`, { code: 'UNIMPLEMENTED', status });
      }
      const limit = limitOf(mount, name);
      // What a method without arguments is sent says nothing; Node reads and drops it while the answer goes out.
      const isNeeded = verb === 'POST' && !(takesNothing(method.desc) && hasBodyUpTo(limit, request));
      const body = isNeeded ? await readBody(request, limit, budget) : NO_BODY;
      if (body.length > SHORT_BODY) await turns.next(networkOf(request.socket.remoteAddress ?? ''));
      const input = decodeRequest(method.desc, { json, body, ...(verb === 'POST' ? {} : { query }) });
      const output = method.run(input, ready);
      result = encodeResponse(method.desc, output instanceof Promise ? await output : output, json);
    } catch (error) {
      failure = error;
      const { text, code, status } = publicForm(error);
      result = encodeError(text, code, status, json);
      if (status === 429 || status === 503)
        result = { ...result, headers: { 'Retry-After': RETRY_AFTER_SECONDS } };
      if (!request.complete && !hasBodyUpTo(SMALL_BODY, request)) {
        request.resume();
        result = { ...result, headers: { ...result.headers, Connection: 'close' } };
      }
    }
    options.onCall?.({
      method: name,
      known: method !== undefined,
      mount: mount.path,
      status: result.status ?? 200,
      durationMs: performance.now() - started,
      json,
      request,
      ...(failure === undefined ? {} : { error: failure }),
    });
    return result;
  }

  function publicForm(error: unknown): PublicError {
    if (error instanceof RpcError) {
      return {
        text: error.message,
        status: error.status,
        ...(error.code === undefined ? {} : { code: error.code }),
      };
    }
    if (error instanceof PrpcError)
      return { text: error.message, code: 'INVALID_ARGUMENT', status: error.status };
    return options.publicError?.(error) ?? { text: 'internal error', code: 'INTERNAL_ERROR', status: 400 };
  }

  return (request, response) => {
    answer(request, response).then(
      (result) => {
        if (result !== 'handled') writeAnswer(request, response, common, result);
      },
      () => writeAnswer(request, response, common, frameworkAnswer(500, request)),
    );
  };
}

/** What a caller that was turned away is told to wait: a request to the minute's tenth (RFC 9110 section 10.2.3). */
const RETRY_AFTER_SECONDS = '6';

/** A body of this size is decoded in no time; longer ones wait for their turn. */
const SHORT_BODY = 16_384;

/** Largest unread body that is worth reading to keep the connection: a new one costs a handshake. */
const SMALL_BODY = 65_536;

/** Whether a request says that its body is no longer. Without either header there is none (RFC 9112 section 6.3). */
function hasBodyUpTo(limit: number, { headers }: IncomingMessage): boolean {
  return headers['transfer-encoding'] === undefined && Number(headers['content-length'] ?? 0) <= limit;
}

function limitOf<C>({ limits = {}, bodyLimit = DEFAULT_BODY_LIMIT }: Mount<C>, method: string): number {
  return Object.hasOwn(limits, method) ? limits[method]! : bodyLimit;
}

const NO_BODY: Uint8Array = new Uint8Array();

function methodTable<C>(mount: Mount<C>): Map<string, Method<C>> {
  const table = new Map<string, Method<C>>();
  for (const { service, methods } of mount.services) {
    for (const desc of service.methods) {
      const run = (methods as Record<string, Method<C>['run'] | undefined>)[desc.name];
      if (run !== undefined && !table.has(desc.name)) table.set(desc.name, { desc, run });
    }
  }
  return table;
}
