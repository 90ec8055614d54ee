import { lstatSync, readFileSync, unlinkSync } from 'node:fs';
import { createServer, type RequestListener, type Server } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import { connect, type Socket } from 'node:net';
import { createSecureContext } from 'node:tls';
import { configureServer, networkOf } from '@dstack-cloud/prpc';
import type { Logger } from 'pino';
import { VmmError } from '../../errors.ts';
import type { VmmConfig } from '../config/vmm-config.ts';
import type { Metrics } from './metrics.ts';

const SOCKET_MODE = 0o660;
const GRACE_MS = 2_000;

/** A listener that runs. */
export interface Listener {
  /** `unix:PATH` or `HOST:PORT`. */
  readonly address: string;
  /** Takes no more connections, lets calls end for a moment, then cuts what is left. */
  close(): Promise<void>;
}

const IN_USE =
  'another program listens there. Stop it, or set address or port of the configuration to something else';

/**
 * Listens where the configuration says: a Unix socket of this user and its group, or an address, there with TLS if keys
 * are configured.
 *
 * @throws VmmError `listen_failed`, `bad_config`
 */
export async function listen(
  { address, port, tls, limits }: VmmConfig,
  handler: RequestListener,
  { metrics, log }: { readonly metrics: Metrics; readonly log: Logger },
): Promise<Listener> {
  const server = tls.key === '' ? createServer(handler) : createTlsServer(tlsCredentials(tls), handler);
  configureServer(server, {
    max: limits.max_connections,
    maxSilent: Math.ceil(limits.max_connections / 4),
    maxPerNetwork: Math.ceil(limits.max_connections / 2),
    maxSilentPerNetwork: Math.ceil(limits.max_connections / 8),
    onTurnedAway: (reason, from) => {
      metrics.connectionRefused(reason);
      log.warn({ source: networkOf(from), reason }, 'connection turned away');
    },
    onCut: (reason, from) => {
      metrics.connectionRefused(reason);
      log.warn({ source: networkOf(from), reason }, 'connection cut');
    },
  });
  const sockets = new Set<Socket>();
  server.on('connection', (socket: Socket) => {
    sockets.add(socket);
    socket.once('close', () => sockets.delete(socket));
  });
  const path = address.startsWith('unix:') ? address.slice('unix:'.length) : undefined;
  if (path === undefined) await bind(server, () => server.listen(port, address), `${address}:${port}`);
  else await bindSocket(server, path);
  const bound = server.address();
  const name = typeof bound === 'object' && bound !== null ? `${address}:${bound.port}` : address;
  return { address: name, close: () => close(server, sockets) };
}

async function bindSocket(server: Server, path: string): Promise<void> {
  await removeStale(path);
  const mask = process.umask(0o777 & ~SOCKET_MODE);
  try {
    await bind(server, () => server.listen(path), path);
  } finally {
    process.umask(mask);
  }
}

async function bind(server: Server, start: () => void, name: string): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    const fail = (cause: NodeJS.ErrnoException): void => {
      const why = cause.code === 'EADDRINUSE' ? IN_USE : cause.message;
      reject(new VmmError('listen_failed', `Cannot listen on ${name}: ${why}`, { cause }));
    };
    server.once('error', fail);
    server.once('listening', () => {
      server.off('error', fail);
      resolve();
    });
    start();
  });
}

/** Removes a socket at which nobody listens any more, and nothing else. */
async function removeStale(path: string): Promise<void> {
  const status = lstatSync(path, { throwIfNoEntry: false });
  if (status === undefined) return;
  if (!status.isSocket())
    throw new VmmError('listen_failed', `Cannot listen on ${path}: something else is there`, {
      expected: 'nothing, or a socket that was left behind',
      found: status.isSymbolicLink() ? 'a link' : 'another kind of file',
    });
  if (await answers(path)) throw new VmmError('listen_failed', `Cannot listen on ${path}: ${IN_USE}`);
  unlinkSync(path);
}

async function answers(path: string): Promise<boolean> {
  return await new Promise((resolve) => {
    const socket = connect({ path });
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', (error: NodeJS.ErrnoException) => resolve(error.code !== 'ECONNREFUSED'));
  });
}

/** Key and certificate of the listener, which fit together. @throws VmmError `bad_config` */
export function tlsCredentials({ key, certs }: VmmConfig['tls']): {
  readonly key: Buffer;
  readonly cert: Buffer;
  readonly minVersion: 'TLSv1.2';
} {
  const found = {
    key: tlsFile('tls.key', key),
    cert: tlsFile('tls.certs', certs),
    minVersion: 'TLSv1.2',
  } as const;
  try {
    createSecureContext(found);
    return found;
  } catch (cause) {
    throw new VmmError(
      'bad_config',
      `tls.key (${key}) and tls.certs (${certs}) are no private key and its certificate, both in PEM: ${(cause as Error).message}`,
      { cause },
    );
  }
}

function tlsFile(member: string, path: string): Buffer {
  try {
    return readFileSync(path);
  } catch (cause) {
    const absent = (cause as NodeJS.ErrnoException).code === 'ENOENT';
    const why = absent ? 'does not exist' : `cannot be read: ${(cause as Error).message}`;
    throw new VmmError(
      'bad_config',
      `${member}: the file ${path} ${why}. Name one in PEM that this user may read`,
      { cause },
    );
  }
}

async function close(server: Server, sockets: ReadonlySet<Socket>): Promise<void> {
  const closed = new Promise<void>((resolve) => server.once('close', () => resolve()));
  server.close();
  server.closeIdleConnections();
  const timer = setTimeout(() => {
    for (const socket of sockets) socket.destroy();
  }, GRACE_MS);
  await closed;
  clearTimeout(timer);
}
