import { chmodSync, lstatSync, mkdirSync, rmSync, symlinkSync } from 'node:fs';
import { createServer, type RequestListener, type Server } from 'node:http';
import { connect } from 'node:net';
import { dirname, join } from 'node:path';
import { configureServer, LISTEN_BACKLOG } from '@dstack-cloud/prpc';
import { GuestError } from '../errors.ts';

/** Where a listener of Node's own is: a Unix socket path, a descriptor handed over by the service manager, or a TCP address. */
export type ListenAddress =
  | { readonly kind: 'unix'; readonly path: string; readonly mode?: number }
  | { readonly kind: 'fd'; readonly fd: number }
  | { readonly kind: 'tcp'; readonly host: string; readonly port: number };

/** Reads `unix:PATH`, `vsock:PORT` or `HOST:PORT`. @throws GuestError `config-invalid` */
export function parseListenAddress(text: string): ListenAddress | { kind: 'vsock'; port: number } {
  if (text.startsWith('unix:')) return { kind: 'unix', path: text.slice(5) };
  const vsock = /^vsock:([0-9]{1,10})$/.exec(text);
  if (vsock !== null) return { kind: 'vsock', port: Number(vsock[1]) };
  const found = /^(?:\[([0-9a-fA-F:]+)\]|([^:]+)):([0-9]{1,5})$/.exec(text);
  const port = Number(found?.[3]);
  if (found === null || port > 65_535) {
    throw new GuestError(
      'config-invalid',
      `Listen address ${text} is not unix:PATH, vsock:PORT or HOST:PORT`,
    );
  }
  return { kind: 'tcp', host: found[1] ?? found[2] ?? '', port };
}

/**
 * Sockets of the service manager, in the order of its unit: dstack, tappd (docs/protocol/guest-agent.md section 1,
 * sd_listen_fds(3)). Containers that mounted the socket keep working over an agent's restart only with these.
 */
export function inheritedSockets(env: NodeJS.ProcessEnv, pid: number): readonly number[] {
  if (env['LISTEN_PID'] !== String(pid)) return [];
  const count = Number(env['LISTEN_FDS']);
  return Number.isInteger(count) && count > 0 && count <= 8
    ? Array.from({ length: count }, (_, n) => 3 + n)
    : [];
}

/** Who may connect to a socket of which nothing else is said: this user. */
const OWN_MODE = 0o600;

/** Starts one HTTP server. @throws GuestError `listen-failed` naming the address */
export async function listen(address: ListenAddress, handler: RequestListener): Promise<Server> {
  const server = configureServer(createServer(handler));
  if (address.kind === 'unix') await freeSocketPath(address.path);
  await new Promise<void>((resolve, reject) => {
    server.once('error', (cause: NodeJS.ErrnoException) => reject(listenError(address, cause)));
    const ready = () => resolve();
    if (address.kind === 'unix') listenPrivately(server, address.path, ready);
    else if (address.kind === 'fd') server.listen({ fd: address.fd }, ready);
    else server.listen({ port: address.port, host: address.host, backlog: LISTEN_BACKLOG }, ready);
  });
  if (address.kind === 'unix') chmodSync(address.path, address.mode ?? OWN_MODE);
  return server;
}

/** Not for a moment is the socket open to more than it shall be. */
function listenPrivately(server: Server, path: string, ready: () => void): void {
  const mask = process.umask(0o177);
  try {
    server.listen(path, ready);
  } finally {
    process.umask(mask);
  }
}

/** Removes a socket that nobody serves any more; one that is served is left alone, and listening then fails. */
async function freeSocketPath(path: string): Promise<void> {
  mkdirSync(dirname(path), { recursive: true });
  const status = lstatSync(path, { throwIfNoEntry: false });
  // Somebody else's stays: listening then fails and names it.
  if (!status?.isSocket() || status.uid !== process.geteuid?.()) return;
  const served = await new Promise<boolean>((resolve) => {
    const socket = connect({ path });
    socket.once('connect', () => resolve(true));
    socket.once('error', () => resolve(false));
    socket.once('close', () => socket.destroy());
    socket.setTimeout(1_000, () => resolve(true));
  });
  if (!served) rmSync(path, { force: true });
}

function listenError(address: ListenAddress, cause: NodeJS.ErrnoException): GuestError {
  const where =
    address.kind === 'tcp'
      ? `${address.host}:${address.port}`
      : address.kind === 'unix'
        ? address.path
        : `descriptor ${address.fd}`;
  const reason = cause.code === 'EADDRINUSE' ? 'already in use' : cause.message;
  return new GuestError('listen-failed', `Cannot listen on ${where}: ${reason}`, { cause, found: where });
}

/**
 * Makes the second location `<dir>/dstack/<name>` that SDKs probe lead to the socket (docs/protocol/guest-agent.md
 * section 1).
 */
export function linkSecondLocation(socketPath: string, name: string): void {
  const directory = join(dirname(socketPath), 'dstack');
  const link = join(directory, name);
  mkdirSync(directory, { recursive: true });
  if (lstatSync(link, { throwIfNoEntry: false })?.isSymbolicLink()) rmSync(link);
  try {
    symlinkSync(socketPath, link);
  } catch {
    // Something else is there: the first location is the documented one.
  }
}
