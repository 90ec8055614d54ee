import { Agent, type ClientRequest, request as httpRequest, type IncomingMessage } from 'node:http';
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https';
import { setTimeout as sleep } from 'node:timers/promises';
import { collectBytes } from '@dstack-cloud/runtime';
import type { Endpoint } from './endpoint.ts';
import { DstackError } from './errors.ts';

/** How calls are made; each call may have its own. */
export interface CallOptions {
  /** For the whole call, with what is tried again. Default 30 s. */
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal;
  /** How often a call that failed on its way is tried again. Default 2; 0 for never. */
  readonly retries?: number;
}

const DEFAULTS = { timeoutMs: 30_000, retries: 2 } as const;
const FIRST_PAUSE_MS = 100;
const MAX_ANSWER_BYTES = 32 * 1024 * 1024;
/** Nothing was sent yet. */
const NOT_CONNECTED: ReadonlySet<string> = new Set(['ECONNREFUSED', 'ENOENT', 'EAGAIN']);
/** The agent starts, or is asked too much at the moment. */
const TRY_LATER: ReadonlySet<number> = new Set([429, 503]);

/** Calls methods of an agent over kept connections: JSON both ways. */
export class Transport {
  readonly #endpoint: Endpoint;
  readonly #options: CallOptions;
  readonly #agent: Agent;

  constructor(endpoint: Endpoint, options: CallOptions) {
    this.#endpoint = endpoint;
    this.#options = options;
    const isTls = 'url' in endpoint && endpoint.url.protocol === 'https:';
    this.#agent = new (isTls ? HttpsAgent : Agent)({ keepAlive: true });
  }

  /**
   * @param path of the method, such as `/GetKey`
   * @param isRepeatable whether a call that may have arrived can be made again
   * @throws DstackError
   */
  async call(path: string, body: object, options: CallOptions = {}, isRepeatable = true): Promise<unknown> {
    const timeoutMs = options.timeoutMs ?? this.#options.timeoutMs ?? DEFAULTS.timeoutMs;
    const retries = options.retries ?? this.#options.retries ?? DEFAULTS.retries;
    const timeout = AbortSignal.timeout(timeoutMs);
    const signals = [timeout, options.signal, this.#options.signal].filter((one) => one !== undefined);
    const signal = AbortSignal.any(signals);
    for (let attempt = 0; ; attempt++) {
      try {
        return parsed(path, await this.#send(path, JSON.stringify(body), signal));
      } catch (error) {
        if (signal.aborted) throw ended(path, timeout, timeoutMs, error);
        const failure = asDstackError(path, error);
        if (attempt >= retries || !mayTryAgain(failure, isRepeatable)) throw failure;
        const pause = FIRST_PAUSE_MS * 2 ** attempt * (0.5 + Math.random());
        await sleep(pause, undefined, { signal }).catch((cause: unknown) => {
          throw ended(path, timeout, timeoutMs, cause);
        });
      }
    }
  }

  /** Closes kept connections. */
  close(): void {
    this.#agent.destroy();
  }

  async #send(path: string, body: string, signal: AbortSignal): Promise<{ status: number; text: string }> {
    return await new Promise((resolve, reject) => {
      const options = {
        method: 'POST',
        agent: this.#agent,
        signal,
        headers: { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) },
      };
      const answer = (response: IncomingMessage): void => {
        collect(response).then((text) => resolve({ status: response.statusCode ?? 0, text }), reject);
      };
      const endpoint = this.#endpoint;
      let outgoing: ClientRequest;
      if ('socketPath' in endpoint) {
        const { socketPath } = endpoint;
        outgoing = httpRequest({ ...options, socketPath, path, host: 'localhost' }, answer);
      } else {
        const url = new URL(path.slice(1), withSlash(endpoint.url));
        outgoing = (url.protocol === 'https:' ? httpsRequest : httpRequest)(url, options, answer);
      }
      outgoing.once('error', reject);
      outgoing.end(body);
    });
  }
}

function withSlash(url: URL): string {
  return url.href.endsWith('/') ? url.href : `${url.href}/`;
}

async function collect(response: IncomingMessage): Promise<string> {
  const tooLong = (): DstackError =>
    new DstackError('answer', `The answer is larger than ${MAX_ANSWER_BYTES} bytes`);
  return new TextDecoder().decode(await collectBytes(response, MAX_ANSWER_BYTES, tooLong));
}

function parsed(path: string, { status, text }: { status: number; text: string }): unknown {
  const method = path.slice(path.lastIndexOf('/') + 1);
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (cause) {
    const message = `${method}: the answer (status ${status}) is not JSON; is this an agent's address?`;
    throw new DstackError('answer', message, { method, status, cause });
  }
  if (status >= 200 && status < 300) return json;
  const { error, code } = (json ?? {}) as { error?: unknown; code?: unknown };
  const serverError = typeof error === 'string' ? error : `status ${status}`;
  throw new DstackError('refused', `${method}: ${serverError}`, {
    method,
    status,
    serverError,
    ...(typeof code === 'string' ? { serverCode: code } : {}),
  });
}

function mayTryAgain(error: DstackError, isRepeatable: boolean): boolean {
  if (error.code === 'refused') return TRY_LATER.has(error.status ?? 0);
  if (error.code !== 'connection') return false;
  const { code } = (error.cause ?? {}) as NodeJS.ErrnoException;
  return isRepeatable || NOT_CONNECTED.has(code ?? '');
}

function asDstackError(path: string, error: unknown): DstackError {
  if (error instanceof DstackError) return error;
  const message = error instanceof Error ? error.message : String(error);
  return new DstackError('connection', `${path.slice(1)}: ${message}`, {
    method: path.slice(1),
    cause: error,
  });
}

function ended(path: string, timeout: AbortSignal, timeoutMs: number, cause: unknown): DstackError {
  const method = path.slice(path.lastIndexOf('/') + 1);
  return timeout.aborted
    ? new DstackError('timeout', `${method}: no answer within ${timeoutMs} ms`, { method, cause })
    : new DstackError('aborted', `${method}: the caller ended the call`, { method, cause });
}
