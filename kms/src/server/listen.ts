import { once } from 'node:events';
import type { Server as HttpServer } from 'node:http';
import type { Server as HttpsServer } from 'node:https';
import type { AddressInfo, Socket } from 'node:net';
import { KmsError } from '../errors.ts';

/** A server that listens. */
export type Listener = {
  readonly address: string;
  readonly port: number;
  /** Takes no more connections, lets calls end for so long, then cuts what is left. */
  close(graceMs?: number): Promise<void>;
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
  // Those that never said anything are no connections of HTTP's, and nothing else would close them.
  const sockets = new Set<Socket>();
  server.on('connection', (socket: Socket) => {
    sockets.add(socket);
    socket.once('close', () => sockets.delete(socket));
  });
  try {
    server.listen(port, address);
    await once(server, 'listening');
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    const hint =
      code === 'EADDRINUSE' ? 'the port is in use; stop the other process or configure another port' : code;
    throw new KmsError('listen-failed', `Cannot listen on ${address} port ${port}: ${hint}`, { cause });
  }
  const bound = server.address() as AddressInfo;
  return {
    address: bound.address,
    port: bound.port,
    async close(graceMs = DEFAULT_GRACE_MS) {
      const closed = once(server, 'close');
      server.close();
      server.closeIdleConnections();
      // A kept connection whose last call ends only now is not closed by Node.
      const idle = setInterval(() => server.closeIdleConnections(), CLOSE_POLL_MS);
      const timer = setTimeout(() => {
        for (const socket of sockets) socket.destroy();
      }, graceMs);
      await closed;
      clearTimeout(timer);
      clearInterval(idle);
    },
  };
}
