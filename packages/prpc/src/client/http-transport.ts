import http from 'node:http';
import https from 'node:https';
import { PrpcError } from '../errors.ts';
import type { PrpcTransport } from './client.ts';

/** Largest answer taken from a server. */
const MAX_RESPONSE = 16 * 1024 * 1024;

export type HttpTransportOptions = {
  /** `https://kms:12001/prpc`, `http://localhost/` with a socket path; methods are appended as one segment. */
  readonly baseUrl?: string;
  /** Unix socket to connect to instead of the URL's host. */
  readonly socketPath?: string;
  /** A kept agent, e.g. raTlsAgent's; without it the transport makes and closes its own. */
  readonly agent?: http.Agent | https.Agent;
  /** TLS options of an own agent: `ca`, `cert`, `key`, `rejectUnauthorized`. */
  readonly tls?: https.AgentOptions;
  readonly headers?: Readonly<Record<string, string>>;
  /** Whole call; 60 s as the original's clients. */
  readonly timeoutMs?: number;
  /** Until connected; 5 s as the original's clients. */
  readonly connectTimeoutMs?: number;
  /** Largest answer that is taken; 16 MiB. */
  readonly maxResponseBytes?: number;
};

/** Speaks prpc over HTTP, HTTPS or a Unix socket, with kept connections, time-outs and a bounded answer. */
export function httpTransport(options: HttpTransportOptions): PrpcTransport {
  const base = new URL(`${(options.baseUrl ?? 'http://localhost').replace(/\/+$/, '')}/`);
  const secure = base.protocol === 'https:';
  const own = options.agent === undefined;
  const agent =
    options.agent ??
    (secure ? new https.Agent({ keepAlive: true, ...options.tls }) : new http.Agent({ keepAlive: true }));
  return {
    call: ({ method, json, body, signal }) =>
      new Promise((resolve, reject) => {
        const path = `${base.pathname}${encodeURIComponent(method)}${json ? '?json' : ''}`;
        const request = (secure ? https : http).request({
          method: 'POST',
          agent,
          path,
          protocol: base.protocol,
          hostname: base.hostname.replace(/^\[|\]$/g, ''),
          port: base.port,
          ...(options.socketPath === undefined ? {} : { socketPath: options.socketPath }),
          ...(signal === undefined ? {} : { signal }),
          headers: {
            'Content-Type': json ? 'application/json' : 'application/octet-stream',
            'Content-Length': body.length,
            ...options.headers,
          },
        });
        const fail = (error: PrpcError): void => {
          clearTimeout(total);
          clearTimeout(connecting);
          reject(error);
          request.destroy();
        };
        const total = setTimeout(
          () => fail(new PrpcError('timed_out', `${method}: no answer within the time limit`)),
          options.timeoutMs ?? 60_000,
        );
        const connecting = setTimeout(
          () => fail(new PrpcError('timed_out', `${method}: no connection within the time limit`)),
          options.connectTimeoutMs ?? 5_000,
        );
        request.once('socket', (socket) => {
          if (!socket.connecting) clearTimeout(connecting);
          else socket.once(secure ? 'secureConnect' : 'connect', () => clearTimeout(connecting));
        });
        request.once('error', (error) => {
          fail(new PrpcError('connect_failed', `${method}: ${error.message}`, { cause: error }));
        });
        request.once('response', (response) => {
          clearTimeout(connecting);
          const chunks: Buffer[] = [];
          let size = 0;
          response.on('data', (chunk: Buffer) => {
            size += chunk.length;
            if (size > (options.maxResponseBytes ?? MAX_RESPONSE))
              fail(new PrpcError('too_large', `${method}: the answer is too large`));
            else chunks.push(chunk);
          });
          response.once('error', (error) => {
            fail(new PrpcError('connect_failed', `${method}: ${error.message}`, { cause: error }));
          });
          response.once('end', () => {
            clearTimeout(total);
            resolve({ status: response.statusCode ?? 0, body: new Uint8Array(Buffer.concat(chunks)) });
          });
        });
        request.end(body);
      }),
    close: () => {
      if (own) agent.destroy();
    },
  };
}
