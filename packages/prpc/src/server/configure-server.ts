import type { Server as HttpServer } from 'node:http';
import type { Server as HttpsServer } from 'node:https';
import { guardConnections } from './connections/connection-guard.ts';
import { CONNECTION_LIMITS, type ConnectionLimits } from './connections/connection-limits.ts';

/** How often Node looks for requests that take too long to come; its own default lets them have half a minute more. */
const CHECK_EVERY_MS = 2_000;

/**
 * Limits and habits that every listener shares: an idle connection is closed after 15 s, headers must come
 * within 10 s and a whole request within 60 s (the original's clients give up then), and a client that closes
 * its sending side still gets its answer, after which the connection ends.
 * HTTP/1.1 requests without Host are answered, against RFC 9112 section 3.2: clients of the original send such.
 */
export function configureServer<S extends HttpServer | HttpsServer>(
  server: S,
  limits: Partial<ConnectionLimits> = {},
): S {
  server.keepAliveTimeout = 15_000;
  server.headersTimeout = 10_000;
  server.requestTimeout = 60_000;
  server.maxHeadersCount = 100;
  // Options of `createServer` that Node reads from the server; whoever makes one need not know of them.
  Object.assign(server, { connectionsCheckingInterval: CHECK_EVERY_MS, requireHostHeader: false });
  // Undocumented since Node 0.x and used by Node's own tests: without it a half-closed connection is cut
  // before its answer is written.
  (server as { httpAllowHalfOpen?: boolean }).httpAllowHalfOpen = true;
  guardConnections(server, { ...CONNECTION_LIMITS, ...limits });
  return server;
}
