import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { MAX_REFUSALS } from './connection-limits.ts';

/** A body of this size costs as much as a connection. */
const COST_BYTES = 65_536;

type Exchange = { readonly request: IncomingMessage; readonly response: ServerResponse };

/** What a connection asks of the table that it is in. */
export interface ConnectionAccount {
  /** Takes what a request of this connection costs; false when its network has used up its share. */
  take(cost: number, connection: Connection): boolean;
  /** Returns the bytes that the connection held on credit. */
  release(connection: Connection): void;
  /** Ends the connections of a network on which nothing is under way. */
  endWaiting(network: string): void;
}

const connections = new WeakMap<Socket, Connection>();

/** The connection that a request came by, if its server has a guard. */
export function connectionOf({ socket }: Pick<IncomingMessage, 'socket'>): Connection | undefined {
  return connections.get(socket);
}

/** One connection, and what is under way on it. */
export class Connection {
  readonly table: ConnectionAccount;
  readonly socket: Socket;
  readonly address: string;
  /** Empty for Unix sockets. */
  readonly network: string;
  /** Nothing whole has come yet. */
  isSilent = true;
  /** The connection ends with the answer that is on its way; whatever else comes by it is not looked at. */
  isClosing = false;
  /** Bytes are relayed for it: it has work, though no request of HTTP is under way. */
  isRelayed = false;
  /** Bytes held on credit. */
  held = 0;
  readonly #underWay = new Set<Exchange>();
  #refusals = 0;
  /** Bytes that refusals so far were counted for. */
  #paidBytes = 0;
  #seenBytes = 0;
  #progressAt = 0;
  #unreadSince: number | undefined;

  constructor(table: ConnectionAccount, socket: Socket, address: string, network: string) {
    this.table = table;
    this.socket = socket;
    this.address = address;
    this.network = network;
  }

  /** Requests will come by this socket: that of the connection, or the TLS socket above it. */
  serves(socket: Socket): void {
    connections.set(socket, this);
  }

  get underWay(): number {
    return this.#underWay.size;
  }

  /** Whether a part of an answer has been sent. */
  get isAnswering(): boolean {
    const [first] = this.#underWay;
    return first?.response.headersSent === true;
  }

  begin(request: IncomingMessage, response: ServerResponse): void {
    const exchange = { request, response };
    if (this.#underWay.size === 0) this.#progressAt = performance.now();
    this.#underWay.add(exchange);
    response.once('close', () => {
      this.#underWay.delete(exchange);
      this.#unreadSince = undefined;
    });
  }

  /** @returns whether this refusal is the last that the connection gets */
  refuse(request: IncomingMessage): boolean {
    this.#refusals += 1;
    const { bytesRead } = this.socket;
    const announced = Number(request.headers['content-length'] ?? 0);
    const hasCredit = this.table.take(
      1 + Math.max(announced, bytesRead - this.#paidBytes) / COST_BYTES,
      this,
    );
    this.#paidBytes = bytesRead;
    if (!hasCredit) this.table.endWaiting(this.network);
    if (hasCredit && this.#refusals < MAX_REFUSALS) return false;
    this.#close(request.socket);
    return true;
  }

  /** Ends it at once. */
  cut(): void {
    for (const { request } of this.#underWay) {
      this.#close(request.socket);
      request.socket.destroy();
    }
    this.isClosing = true;
    this.socket.destroy();
  }

  /** What it stands still at, and for how long, in milliseconds. */
  standstill(now: number): { readonly at: 'stalled' | 'unread'; readonly ms: number } | undefined {
    const [first] = this.#underWay;
    if (first === undefined) return undefined;
    const { request, response } = first;
    if (response.writableEnded) {
      this.#unreadSince ??= now;
      return { at: 'unread', ms: now - this.#unreadSince };
    }
    if (request.complete) return undefined;
    const { bytesRead } = this.socket;
    if (bytesRead !== this.#seenBytes) {
      this.#seenBytes = bytesRead;
      this.#progressAt = now;
    }
    return { at: 'stalled', ms: now - this.#progressAt };
  }

  /** Node parses all of a chunk that it has read, of a closed connection too, and makes objects for each request in it. */
  #close(socket: Socket & { parser?: { onIncoming?: unknown } | null }): void {
    this.isClosing = true;
    if (socket.parser?.onIncoming) socket.parser.onIncoming = () => 0;
  }
}
