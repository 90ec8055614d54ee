import type { Server as HttpServer, IncomingMessage, ServerResponse } from 'node:http';
import type { Server as HttpsServer } from 'node:https';
import type { Socket } from 'node:net';
import { FairTurns } from '../fair-turns.ts';
import { Arrivals } from './arrivals.ts';
import { type Connection, connectionOf } from './connection.ts';
import { type ConnectionLimits, MAX_PIPELINED } from './connection-limits.ts';
import { ConnectionTable } from './connection-table.ts';

/** Handshakes that begin in one turn of the event loop: each takes a millisecond or two. */
const HANDSHAKES_PER_TURN = 4;
/** Without TLS, what a connection brings at once is its first requests. */
const CONNECTIONS_PER_TURN = 16;
/** How often connections are looked at that may be kept for no reason. */
const SWEEP_MS = 1_000;

/**
 * Puts a door before a server: who comes in is counted by network before anything is set up for it, and nobody is kept
 * for ever. A Unix socket has no networks; there only the bounds on time and on all connections hold.
 */
export function guardConnections(server: HttpServer | HttpsServer, limits: ConnectionLimits): void {
  const table = new ConnectionTable(limits);
  const isTls = 'setSecureContext' in server;
  const arrivals = new Arrivals();
  const turns = new FairTurns({
    perLoop: isTls ? HANDSHAKES_PER_TURN : CONNECTIONS_PER_TURN,
    mustWait: () => arrivals.goFirst(),
  });
  /** By address and port, since a TLS socket does not say which socket is below it. */
  const inHandshake = new Map<string, Connection>();

  takeOver<[Socket]>(server, 'connection', (pass, socket) => {
    arrivals.note();
    const connection = table.admit(socket, typeof server.address() === 'string');
    if (connection === undefined) return;
    if (isTls) {
      const name = endpoint(socket);
      inHandshake.set(name, connection);
      socket.once('close', () => inHandshake.delete(name));
    } else connection.serves(socket);
    // One that goes away while it waits says so to nobody else.
    socket.on('error', () => socket.destroy());
    turns.take(connection.network, () => {
      if (!socket.destroyed) pass(socket);
    });
  });
  server.prependListener('secureConnection', (socket: Socket) => {
    const connection = inHandshake.get(endpoint(socket));
    if (connection === undefined) return;
    inHandshake.delete(endpoint(socket));
    connection.serves(socket);
    table.spoke(connection);
    table.hold(connection);
  });
  takeOver<[IncomingMessage, ServerResponse]>(server, 'request', (pass, request, response) => {
    const connection = connectionOf(request);
    if (connection === undefined) return pass(request, response);
    if (connection.isClosing) return;
    if (connection.underWay >= MAX_PIPELINED) return table.punish(connection);
    table.spoke(connection);
    connection.begin(request, response);
    pass(request, response);
  });

  server.on('clientError', (error: NodeJS.ErrnoException, socket: Socket) => {
    const isLate = error.code === 'ERR_HTTP_REQUEST_TIMEOUT';
    const connection = connectionOf({ socket });
    if (isLate || error.code?.startsWith('HPE_')) {
      limits.onCut?.(isLate ? 'late' : 'malformed', connection?.address ?? '');
      const status = isLate
        ? '408 Request Timeout'
        : error.code === 'HPE_HEADER_OVERFLOW'
          ? '431 Request Header Fields Too Large'
          : '400 Bad Request';
      // Not into the middle of an answer.
      const isFree = socket.writable && connection?.isAnswering !== true;
      if (isFree) socket.write(`HTTP/1.1 ${status}\r\nConnection: close\r\n\r\n`);
    }
    socket.destroy();
  });

  let sweep: NodeJS.Timeout | undefined;
  server.on('listening', () => {
    sweep = setInterval(() => table.sweep(), SWEEP_MS);
    sweep.unref();
  });
  server.on('close', () => clearInterval(sweep));
}

/** Whether the network of a client still has so much of what it may cost in a minute; takes it. */
export function takeToll(request: Pick<IncomingMessage, 'socket'>, cost: number): boolean {
  const connection = connectionOf(request);
  return connection === undefined || connection.table.take(cost, connection);
}

/**
 * Counts an answer that refuses against the network of the client.
 * @returns whether the connection has had enough of them and is to be closed with this answer
 */
export function countRefusal(request: IncomingMessage): boolean {
  return connectionOf(request)?.refuse(request) ?? false;
}

/** The client has shown who it is: what it sent in the handshake is not held on credit any more. */
export function markProven(request: Pick<IncomingMessage, 'socket'>): void {
  const connection = connectionOf(request);
  connection?.table.release(connection);
}

type Listener = (...input: never[]) => void;

/** Puts one listener before those that an event has; `pass` calls these. */
function takeOver<A extends unknown[]>(
  server: HttpServer | HttpsServer,
  event: string,
  listener: (pass: (...input: A) => void, ...input: A) => void,
): void {
  const listeners = server.listeners(event) as Listener[];
  server.removeAllListeners(event);
  const pass = (...input: A): void => {
    for (const one of listeners) Reflect.apply(one, server, input);
  };
  server.on(event, (...input: unknown[]) => listener(pass, ...(input as A)));
}

function endpoint({ remoteAddress, remotePort }: Socket): string {
  return `${remoteAddress} ${remotePort}`;
}
