import type { Server as HttpServer } from 'node:http';
import type { Server as HttpsServer } from 'node:https';

/**
 * Limits and habits that every listener shares: an idle connection is closed after 15 s, headers must come
 * within 10 s and a whole request within 60 s (the original's clients give up then), and a client that closes
 * its sending side still gets its answer, after which the connection ends (chapter 30 section 1.2, point 4).
 */
export function configureServer<S extends HttpServer | HttpsServer>(server: S): S {
  server.keepAliveTimeout = 15_000;
  server.headersTimeout = 10_000;
  server.requestTimeout = 60_000;
  server.maxHeadersCount = 100;
  // Undocumented since Node 0.x and used by Node's own tests: without it a half-closed connection is cut
  // before its answer is written.
  (server as { httpAllowHalfOpen?: boolean }).httpAllowHalfOpen = true;
  return server;
}
