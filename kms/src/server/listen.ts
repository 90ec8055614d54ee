import { once } from 'node:events';
import type { Server as HttpServer } from 'node:http';
import type { Server as HttpsServer } from 'node:https';
import type { AddressInfo, Server, Socket } from 'node:net';
import { LISTEN_BACKLOG } from '@dstack-cloud/prpc';
import { KmsError } from '../errors.ts';

/** Takes no more connections, lets calls end for so long, then cuts what is left. */
type Close = (graceMs?: number) => Promise<void>;

/** A server that listens. */
export type Listener = {
  readonly address: string;
  readonly port: number;
  readonly close: Close;
};

/** A server that another process gives its connections to. */
export type Served = {
  serve(socket: Socket): void;
  readonly close: Close;
};

/** Less than the five seconds after which supervisors and people lose patience. */
const DEFAULT_GRACE_MS = 4_000;
/** How often a closing server looks for connections that have become idle. */
const CLOSE_POLL_MS = 50;

/** Starts listening. @throws KmsError `listen-failed` naming the address, the port and what to do */
export async function listen(
  server: HttpServer | HttpsServer,
  address: string,
  port: number,
): Promise<Listener> {
  const close = closerOf(server);
  return { ...(await bind(server, address, port)), close };
}

/** As `listen`, for a server that has no address of its own. */
export function serveGiven(server: HttpServer | HttpsServer): Served {
  const close = closerOf(server);
  // What servers begin when they listen, such as looking for connections that are late.
  server.emit('listening');
  return { serve: (socket) => void server.emit('connection', socket), close };
}

/** @throws KmsError `listen-failed` naming the address, the port and what to do */
export async function bind(
  server: Server,
  address: string,
  port: number,
): Promise<{ address: string; port: number }> {
  try {
    server.listen({ port, host: address, backlog: LISTEN_BACKLOG });
    await once(server, 'listening');
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    const hint =
      code === 'EADDRINUSE' ? 'the port is in use; stop the other process or configure another port' : code;
    throw new KmsError('listen-failed', `Cannot listen on ${address} port ${port}: ${hint}`, { cause });
  }
  const bound = server.address() as AddressInfo;
  return { address: bound.address, port: bound.port };
}

function closerOf(server: HttpServer | HttpsServer): Close {
  // Those that never said anything are no connections of HTTP's, and nothing else would close them.
  const sockets = new Set<Socket>();
  server.on('connection', (socket: Socket) => {
    sockets.add(socket);
    socket.once('close', () => sockets.delete(socket));
  });
  return async (graceMs = DEFAULT_GRACE_MS) => {
    const closed = once(server, 'close');
    server.close();
    server.closeIdleConnections();
    const timer = setTimeout(() => {
      for (const socket of sockets) socket.destroy();
    }, graceMs);
    // A kept connection whose last call ends only now is not closed by Node.
    const idle = setInterval(() => server.closeIdleConnections(), CLOSE_POLL_MS);
    await closed;
    // A server without an address of its own is closed at once: it does not count the connections it was given.
    await Promise.all([...sockets].map(closing));
    clearTimeout(timer);
    clearInterval(idle);
  };
}

/** Not `once` of node:events, which fails when the socket has an error first: others would be cut off for it. */
function closing(socket: Socket): Promise<void> {
  return new Promise((resolve) => {
    if (socket.closed) resolve();
    else socket.once('close', () => resolve());
  });
}
