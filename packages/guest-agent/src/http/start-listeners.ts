import type { Server } from 'node:http';
import type { GuestConfig } from '../config/guest-config.ts';
import type { Handlers } from './handlers.ts';
import { inheritedSockets, linkSecondLocation, listen, parseListenAddress } from './listen.ts';

const CLOSE_TIMEOUT_MS = 2_000;

/** The agent's open listeners. */
export interface Listeners {
  /** Addresses for the ready line, with the ports that were chosen. */
  readonly addresses: readonly string[];
  close(): Promise<void>;
}

/** Opens all listeners, or none. @throws GuestError `listen-failed` */
export async function startListeners(config: GuestConfig, handlers: Handlers): Promise<Listeners> {
  const servers: Server[] = [];
  const close = async (): Promise<void> => {
    await Promise.all(servers.map(closeServer));
  };
  try {
    const [dstackFd, tappdFd] = inheritedSockets(process.env, process.pid);
    const { dstackSock, tappdSock, external, guestApi } = config.listen;
    const unix = async (path: string, fd: number | undefined, name: string, handler: Handlers['dstack']) => {
      servers.push(await listen(fd === undefined ? { kind: 'unix', path } : { kind: 'fd', fd }, handler));
      if (fd === undefined) linkSecondLocation(path, name);
    };
    await unix(dstackSock, dstackFd, 'dstack.sock', handlers.dstack);
    await unix(tappdSock, tappdFd, 'tappd.sock', handlers.tappd);
    if (external !== undefined) servers.push(await listen(parseListenAddress(external), handlers.external));
    if (guestApi !== undefined) servers.push(await listen(parseListenAddress(guestApi), handlers.guestApi));
  } catch (error) {
    await close();
    throw error;
  }
  return { addresses: servers.map(addressOf), close };
}

function addressOf(server: Server): string {
  const address = server.address();
  if (address === null || typeof address === 'string') return address ?? '';
  return `${address.family === 'IPv6' ? `[${address.address}]` : address.address}:${address.port}`;
}

async function closeServer(server: Server): Promise<void> {
  const closed = new Promise<void>((resolve) => server.close(() => resolve()));
  server.closeIdleConnections();
  const timer = setTimeout(() => server.closeAllConnections(), CLOSE_TIMEOUT_MS);
  await closed;
  clearTimeout(timer);
}
