import http from 'node:http';
import https from 'node:https';
import { performance } from 'node:perf_hooks';
import { PolicyError, type PolicyErrorCode } from '../errors.ts';

/** One request to a backend. */
export type HttpRequest = {
  readonly method: 'GET' | 'POST';
  readonly url: URL;
  readonly headers: Readonly<Record<string, string>>;
  readonly body?: string;
  /** For the whole exchange, connection included. */
  readonly timeoutMs: number;
  /** A longer answer is an error, however it is announced. */
  readonly maxBytes: number;
  readonly connections: Connections;
  /** Over a connection of its own: behind a balancer another backend may take it. */
  readonly fresh?: boolean;
};

/** What came back; redirects are answers like any other and are not followed. */
export type HttpAnswer = { readonly status: number; readonly statusText: string; readonly body: string };

/** Connections to one backend. Both agents have the same TLS rules. */
export type Connections = {
  /** Keeps connections open, so that a decision costs one round trip. */
  readonly kept: http.Agent;
  /** Opens one for each request. */
  readonly single: http.Agent;
  close(): void;
};

/** @param options.ca PEM of the only authority to trust for https; default the system's */
export function openConnections(url: URL, options: { ca?: string } = {}): Connections {
  const { ca } = options;
  // The server may close an idle connection at 5 s; leaving earlier avoids most races with it.
  const keeping = { keepAlive: true, maxFreeSockets: 16, timeout: 4_000, scheduling: 'lifo' } as const;
  // Said aloud, because NODE_TLS_REJECT_UNAUTHORIZED=0 in the environment would else switch the check off.
  const checked = { minVersion: 'TLSv1.2', rejectUnauthorized: true } as const;
  const tls = { ...checked, ...(ca === undefined ? {} : { ca }) };
  const open = (rules: http.AgentOptions): http.Agent =>
    url.protocol === 'https:'
      ? new https.Agent({ ...rules, ...tls, maxSockets: 64 })
      : new http.Agent({ ...rules, maxSockets: 64 });
  const kept = open(keeping);
  const single = open({ keepAlive: false });
  return {
    kept,
    single,
    close: () => {
      kept.destroy();
      single.destroy();
    },
  };
}

/**
 * Send one request and read the bounded answer.
 * @throws PolicyError `backend-timeout`, `backend-answer` (too long, not UTF-8) or `backend-unreachable`
 */
export async function exchange(request: HttpRequest): Promise<HttpAnswer> {
  const { kept, single } = request.connections;
  const began = performance.now();
  try {
    return await attempt(request, request.fresh ? single : kept);
  } catch (error) {
    if (!(error instanceof StaleConnection)) throw error;
    // The peer closed a kept connection while the request was on its way. Asking a question twice is harmless.
    const timeoutMs = Math.max(1, request.timeoutMs - (performance.now() - began));
    return await attempt({ ...request, timeoutMs }, single);
  }
}

/** Internal: a kept connection ended before any byte of an answer. */
class StaleConnection extends Error {}

function attempt(request: HttpRequest, agent: http.Agent): Promise<HttpAnswer> {
  const { method, url, headers, body, timeoutMs, maxBytes } = request;
  const { promise, resolve, reject } = withResolvers<HttpAnswer>();
  const fail = (code: PolicyErrorCode, what: string, cause?: unknown): void => {
    clearTimeout(timer);
    outgoing.destroy();
    const detail = `${method} ${url.origin}: ${what}`;
    reject(new PolicyError(code, `authorization backend: ${what}`, { cause, detail }));
  };

  const length = body === undefined ? {} : { 'content-length': String(Buffer.byteLength(body)) };
  const outgoing = (url.protocol === 'https:' ? https : http).request(url, {
    method,
    headers: { ...headers, ...length },
    agent,
  });
  const timer = setTimeout(() => fail('backend-timeout', `no answer within ${timeoutMs} ms`), timeoutMs);

  outgoing.on('error', (error: NodeJS.ErrnoException) => {
    clearTimeout(timer);
    if (outgoing.reusedSocket && (error.code === 'ECONNRESET' || error.code === 'EPIPE'))
      reject(new StaleConnection());
    else fail('backend-unreachable', connectProblem(error), error);
  });
  outgoing.once('response', (response) => {
    const chunks: Buffer[] = [];
    let size = 0;
    response.on('data', (chunk: Buffer) => {
      size += chunk.length;
      if (size > maxBytes) fail('backend-answer', `answer longer than ${maxBytes} bytes`);
      else chunks.push(chunk);
    });
    response.on('error', (error) => fail('backend-unreachable', 'connection lost during the answer', error));
    response.once('end', () => {
      clearTimeout(timer);
      const { statusCode = 0, statusMessage = '' } = response;
      try {
        // A page that says what failed may be in any encoding.
        const fatal = statusCode >= 200 && statusCode <= 299;
        const text = new TextDecoder('utf-8', { fatal }).decode(Buffer.concat(chunks));
        resolve({ status: statusCode, statusText: statusMessage, body: text });
      } catch (cause) {
        fail('backend-answer', 'answer is not UTF-8', cause);
      }
    });
  });
  outgoing.end(body);
  return promise;
}

/** True for a failure in which the backend cannot have seen the request. */
export function isConnectFailure(error: unknown): boolean {
  if (!(error instanceof PolicyError) || error.code !== 'backend-unreachable') return false;
  return connectCodes.has((error.cause as NodeJS.ErrnoException | undefined)?.code ?? '');
}

const connectCodes = new Set([
  'ECONNREFUSED',
  'EAI_AGAIN',
  'ENOTFOUND',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'ETIMEDOUT',
]);

function connectProblem(error: NodeJS.ErrnoException): string {
  return error.code ? `connection failed (${error.code})` : 'connection failed';
}

function withResolvers<T>(): {
  promise: Promise<T>;
  resolve: (value: T) => void;
  reject: (error: Error) => void;
} {
  let resolve!: (value: T) => void;
  let reject!: (error: Error) => void;
  const promise = new Promise<T>((yes, no) => {
    resolve = yes;
    reject = no;
  });
  return { promise, resolve, reject };
}
