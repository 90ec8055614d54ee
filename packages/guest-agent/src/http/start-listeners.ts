import type { Server } from 'node:http';
import { CONTAINERS_MODE } from '../config/containers-mode.ts';
import type { GuestConfig } from '../config/guest-config.ts';
import type { Handlers } from './handlers.ts';
import { inheritedSockets, linkSecondLocation, listen, parseListenAddress } from './listen.ts';
import { type HostListener, listenToHost } from './listen-vsock.ts';

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
  const hostListeners: HostListener[] = [];
  const names: string[] = [];
  const close = async (): Promise<void> => {
    for (const listener of hostListeners) listener.close();
    await Promise.all(servers.map(closeServer));
  };
  try {
    const [dstackFd, tappdFd] = inheritedSockets(process.env, process.pid);
    const { dstackSock, tappdSock, external, guestApi } = config.listen;
    const mode = applicationSocketMode(config);
    const unix = async (path: string, fd: number | undefined, name: string, handler: Handlers['dstack']) => {
      const address =
        fd === undefined ? ({ kind: 'unix', path, mode } as const) : ({ kind: 'fd', fd } as const);
      servers.push(await listen(address, handler));
      names.push(path);
      linkSecondLocation(path, name);
    };
    await unix(dstackSock, dstackFd, 'dstack.sock', handlers.dstack);
    await unix(tappdSock, tappdFd, 'tappd.sock', handlers.tappd);
    const open = async (text: string | undefined, handler: Handlers['dstack']): Promise<void> => {
      if (text === undefined) return;
      const address = parseListenAddress(text);
      if (address.kind === 'vsock') {
        hostListeners.push(await listenToHost(address.port, handler));
        names.push(text);
        return;
      }
      const server = await listen(address, handler);
      servers.push(server);
      names.push(addressOf(server));
    };
    await open(external, handlers.external);
    await open(guestApi, handlers.guestApi);
  } catch (error) {
    await close();
    throw error;
  }
  return { addresses: names, close };
}

/**
 * Inside of a machine every container may connect, as to the service manager's sockets. Where a directory stands for the
 * machine its sockets lie on a host: only this user may, until the runner starts containers.
 */
function applicationSocketMode({ root, simulator }: GuestConfig): number {
  return root === '/' || simulator !== undefined ? CONTAINERS_MODE : 0o600;
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
