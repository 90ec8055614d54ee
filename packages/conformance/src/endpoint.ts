import http from 'node:http';
import https from 'node:https';
import { connect, isIP } from 'node:net';
import { connect as connectTls } from 'node:tls';
import { utf8Text } from '@dstack-cloud/encoding';
import { Deviation, reading } from './case.ts';

/** Where an implementation listens. */
export type Endpoint =
  | { readonly kind: 'unix'; readonly path: string }
  | {
      readonly kind: 'http' | 'https';
      readonly host: string;
      readonly port: number;
      /** Certificate and key of the client, PEM. */
      readonly identity?: { readonly cert: string; readonly key: string };
    };

export interface Request {
  readonly method?: string;
  /** Path and query, written as they are. */
  readonly path: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string | Uint8Array;
}

export interface Exchange {
  readonly status: number;
  /** Names in lower case. */
  readonly headers: Readonly<Record<string, string | undefined>>;
  readonly body: Uint8Array;
}

const MAX_ANSWER = 16 * 2 ** 20;
const TIME_LIMIT_MS = 30_000;

/** Reads `unix:PATH`, a path, or a URL. @throws Error for anything else */
export function parseEndpoint(text: string): Endpoint {
  if (text.startsWith('unix:')) return { kind: 'unix', path: text.slice('unix:'.length) };
  if (/^\.{0,2}\//.test(text)) return { kind: 'unix', path: text };
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url === undefined || !/^https?:$/.test(url.protocol) || url.pathname !== '/' || url.search !== '')
    throw new Error(`${text} is neither unix:PATH nor http://HOST:PORT nor https://HOST:PORT`);
  const kind = url.protocol === 'https:' ? 'https' : 'http';
  const port = url.port === '' ? (kind === 'https' ? 443 : 80) : Number(url.port);
  return { kind, host: url.hostname.replace(/^\[|\]$/g, ''), port };
}

/**
 * One request on a connection of its own. Certificates are not checked: what a service proves is for the cases to say.
 * @throws Deviation without an answer of HTTP within the bounds
 */
export function exchange(
  endpoint: Endpoint,
  request: Request,
  agent: http.Agent | false = false,
  /** Name of the server in TLS, where it is not the host. */
  servername?: string,
): Promise<Exchange> {
  const { method = 'POST', path, headers, body } = request;
  const at =
    endpoint.kind === 'unix'
      ? { socketPath: endpoint.path }
      : {
          host: endpoint.host,
          port: endpoint.port,
          rejectUnauthorized: false,
          ...endpoint.identity,
          ...(servername === undefined ? {} : { servername }),
        };
  const send = endpoint.kind === 'https' ? https.request : http.request;
  const length = body === undefined ? {} : { 'Content-Length': String(Buffer.byteLength(body)) };
  const all = { Host: 'localhost', ...length, ...headers };
  return new Promise((resolve, reject) => {
    const fail = (text: string, cause?: unknown): void => {
      clearTimeout(timer);
      reject(new Deviation(`${method} ${path.slice(0, 80)}: ${text}`, { cause }));
      outgoing.destroy();
    };
    const outgoing = send({ ...at, method, path, headers: all, agent }, (response) => {
      const parts: Buffer[] = [];
      let size = 0;
      response.on('data', (part: Buffer) => {
        size += part.length;
        if (size > MAX_ANSWER) fail(`the answer has more than ${MAX_ANSWER} bytes`);
        else parts.push(part);
      });
      response.once('error', (cause) => fail(cause.message, cause));
      response.once('end', () => {
        clearTimeout(timer);
        const answered = Object.entries(response.headers).map(([name, value]) => [name, String(value)]);
        const bytes = new Uint8Array(Buffer.concat(parts));
        resolve({ status: response.statusCode ?? 0, headers: Object.fromEntries(answered), body: bytes });
      });
    });
    const timer = setTimeout(() => fail(`no answer within ${TIME_LIMIT_MS / 1000} s`), TIME_LIMIT_MS);
    outgoing.once('error', (cause) => fail(cause.message, cause));
    outgoing.end(body);
  });
}

export interface RawExchange {
  /** Everything that came, as text with one character for each byte. */
  readonly text: string;
  /** The server closed the connection within the time. */
  readonly closed: boolean;
}

export interface RawOptions {
  /** End this side once an answer has begun. */
  readonly halfClose?: boolean;
  readonly forMs?: number;
}

/** Writes bytes as they are, and reads until the end or until the time is over. */
export function rawExchange(
  endpoint: Endpoint,
  bytes: string | Uint8Array,
  { halfClose = false, forMs = 2_000 }: RawOptions = {},
): Promise<RawExchange> {
  return new Promise((resolve) => {
    const socket = openSocket(endpoint);
    let text = '';
    const end = (closed: boolean) => (): void => {
      clearTimeout(timer);
      socket.destroy();
      resolve({ text, closed });
    };
    const timer = setTimeout(end(false), forMs);
    socket.on('data', (part: Buffer) => {
      const isFirst = text === '';
      if (text.length < MAX_ANSWER) text += part.toString('latin1');
      if (isFirst && halfClose) socket.end();
    });
    socket.once('error', end(true));
    socket.once('end', end(true));
    socket.once('close', end(true));
    socket.write(bytes);
  });
}

function openSocket(endpoint: Endpoint) {
  if (endpoint.kind === 'unix') return connect({ path: endpoint.path, allowHalfOpen: true });
  const { host, port } = endpoint;
  if (endpoint.kind === 'http') return connect({ host, port, allowHalfOpen: true });
  const servername = isIP(host) === 0 ? { servername: host } : {};
  return connectTls({ host, port, rejectUnauthorized: false, ...servername });
}

/** The object of a JSON answer. @throws Deviation */
export function jsonOf(answer: Exchange): Record<string, unknown> {
  const text = reading('The body is UTF-8', () => utf8Text(answer.body));
  const value: unknown = reading('The body is JSON', () => JSON.parse(text));
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw new Deviation(`The body is no JSON object: ${text.slice(0, 80)}`);
  return value as Record<string, unknown>;
}
