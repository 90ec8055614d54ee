import type { Server, Socket } from 'node:net';
import { networkOf } from './network-of.ts';

/** Who may have a connection. */
export type Admission = {
  /** Connections open at the same time. */
  readonly max: number;
  /** Of them, those of one address: whoever opens connections and says nothing leaves room for all others. */
  readonly maxPerAddress: number;
  /** Asked last. */
  readonly admits: (address: string) => boolean;
  /** Told of each connection that was closed at once. */
  readonly onTurnedAway?: () => void;
};

/**
 * Closes connections before anything is set up for them: a handshake costs more than the refusal of forged evidence.
 * The server's own `maxConnections` would have a worker give surplus connections back, over and over.
 */
export function admitOnly(server: Server, { max, maxPerAddress, admits, onTurnedAway }: Admission): void {
  const listeners = server.listeners('connection');
  const openOf = new Map<string, number>();
  let open = 0;
  const count = (network: string, change: 1 | -1): void => {
    const left = (openOf.get(network) ?? 0) + change;
    if (left > 0) openOf.set(network, left);
    else openOf.delete(network);
    open += change;
  };
  server.removeAllListeners('connection');
  server.on('connection', (socket: Socket) => {
    // None when the peer has gone already.
    const address = socket.remoteAddress ?? '';
    const network = networkOf(address);
    if (open >= max || (openOf.get(network) ?? 0) >= maxPerAddress || !admits(address)) {
      onTurnedAway?.();
      socket.destroy();
      return;
    }
    count(network, 1);
    socket.once('close', () => count(network, -1));
    for (const listener of listeners) listener.call(server, socket);
  });
}
