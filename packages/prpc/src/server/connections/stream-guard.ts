import type { Server, Socket } from 'node:net';
import { FairTurns } from '../fair-turns.ts';
import { Arrivals } from './arrivals.ts';
import type { ConnectionLimits } from './connection-limits.ts';
import { ConnectionTable } from './connection-table.ts';

/** Connections begun in one turn of the event loop. */
const PER_TURN = 8;

/** A connection that was let in. */
export type GuardedStream = {
  readonly socket: Socket;
  readonly address: string;
  /** As `networkOf`; empty for a Unix socket. */
  readonly network: string;
  /** It has said something whole, and no longer counts among those that have not. */
  spoke(): void;
  /** Bytes are relayed for it from now on: it is not ended to make room for others. */
  relayed(): void;
  /** Takes what its network may cost in a minute; false when there is not so much left. */
  take(cost: number): boolean;
};

/**
 * The door of `configureServer` for a listener that is not HTTP: who comes in is counted by network before anything is
 * done for it. What has been let in is for `serve` to bound in time.
 */
export function guardStreams(
  server: Server,
  limits: ConnectionLimits,
  serve: (stream: GuardedStream) => void,
): void {
  const table = new ConnectionTable(limits);
  const arrivals = new Arrivals();
  const turns = new FairTurns({ perLoop: PER_TURN, mustWait: () => arrivals.goFirst() });
  server.on('connection', (socket) => {
    arrivals.note();
    const connection = table.admit(socket, typeof server.address() === 'string');
    if (connection === undefined) return;
    // One that goes away says so to nobody else.
    socket.on('error', () => socket.destroy());
    const { address, network } = connection;
    turns.take(network, () => {
      if (socket.destroyed) return;
      serve({
        socket,
        address,
        network,
        spoke: () => table.spoke(connection),
        relayed: () => {
          table.spoke(connection);
          connection.isRelayed = true;
        },
        take: (cost) => table.take(cost, connection),
      });
    });
  });
}
