import { createServer, type Server, type Socket } from 'node:net';
import { networkOf, type TurnedAway } from '@dstack-cloud/prpc';
import { bind } from '../server/listen.ts';
import { ConnectionQueue, type QueueLimits } from './connection-queue.ts';

/** A process that connections are handed to. */
export type Taker = { give(socket: Socket): void };

/**
 * Takes the connections of a service of several processes and hands them out, one at a time to each process: it says
 * when it has one, so a process that computes gets none meanwhile. The processes come in turn, since each enforces its
 * part of the limits by network; and so do the networks of those who wait. node:cluster keeps one queue without bound
 * for all, in which a newcomer waits for everyone before it.
 */
export class FrontDoor {
  readonly #server: Server;
  readonly #onTurnedAway: (why: TurnedAway, address: string) => void;
  readonly #waiting: ConnectionQueue<Socket>;
  readonly #takers = new Set<Taker>();
  /** Those that may be given one, in the order of their turns. */
  readonly #free = new Set<Taker>();
  #isClosed = false;

  constructor(limits: QueueLimits, onTurnedAway: (why: TurnedAway, address: string) => void) {
    this.#onTurnedAway = onTurnedAway;
    this.#waiting = new ConnectionQueue(limits);
    // Whoever serves a connection reads what it says, from its first byte.
    this.#server = createServer({ pauseOnConnect: true }, (socket) => this.#admit(socket));
  }

  /** @throws KmsError `listen-failed` */
  listen(address: string, port: number): Promise<{ address: string; port: number }> {
    return bind(this.#server, address, port);
  }

  add(taker: Taker): void {
    this.#takers.add(taker);
    this.took(taker);
  }

  /** It has the one that it was given. */
  took(taker: Taker): void {
    if (!this.#takers.has(taker)) return;
    this.#free.add(taker);
    this.#handOut();
  }

  remove(taker: Taker): void {
    this.#takers.delete(taker);
    this.#free.delete(taker);
  }

  /** Takes no more connections, and cuts those that nobody has. */
  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#server.close();
    for (let socket = this.#waiting.shift(); socket; socket = this.#waiting.shift()) socket.destroy();
  }

  #admit(socket: Socket): void {
    socket.on('error', () => socket.destroy());
    // Without an address its peer has gone already.
    if (this.#isClosed || socket.remoteAddress === undefined) {
      socket.destroy();
      return;
    }
    const dropped = this.#waiting.push(networkOf(socket.remoteAddress), socket);
    if (dropped !== undefined) {
      this.#onTurnedAway(dropped.why, dropped.item.remoteAddress ?? '');
      dropped.item.destroy();
    }
    this.#handOut();
  }

  #handOut(): void {
    for (const taker of this.#free) {
      const socket = this.#waiting.shift();
      if (socket === undefined) return;
      this.#free.delete(taker);
      taker.give(socket);
    }
  }
}
