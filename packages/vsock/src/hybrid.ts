import { lstatSync, rmSync } from 'node:fs';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { isThere } from '@dstack-cloud/files';
import { VsockError } from './errors.ts';
import { readLine } from './read-line.ts';
import type { Vsock, VsockServer } from './vsock.ts';

/** Firecracker, Cloud Hypervisor and vhost-device-vsock: the guest's vsock is a Unix socket beside its ports. */
const TIMEOUT_MS = 10_000;
/** `OK` and a port number of 32 bits. */
const MAX_REPLY = 64;
const REQUEST = /^CONNECT (\d{1,10})$/;

/** Socket at which the host serves what the guest connects to. */
export function hybridPortPath(path: string, port: number): string {
  return `${path}_${port}`;
}

/**
 * The host's side: to the guest through `path` with a line `CONNECT PORT`, from the guest at `path_PORT`. Each guest has
 * a path of its own, so its context id is not looked at.
 */
export function hybridHost(path: string): Vsock {
  return {
    connect: (_, port) => dialHybrid(path, port),
    listen: (port, onStream) =>
      serveUnix(hybridPortPath(path, port), (stream) => onStream(stream, undefined)),
  };
}

/** The guest's side of the same sockets, for a guest that is a process of this machine. */
export function hybridGuest(path: string): Vsock {
  const ports = new Map<number, (stream: Socket) => void>();
  let server: Promise<VsockServer> | undefined;
  const answer = async (stream: Socket): Promise<void> => {
    try {
      const port = Number(REQUEST.exec(await readLine(stream, MAX_REPLY, TIMEOUT_MS))?.[1]);
      const onStream = ports.get(port);
      if (onStream === undefined) throw new VsockError('not-listening', `Nothing listens on port ${port}`);
      stream.write(`OK ${port}\n`);
      onStream(stream);
    } catch {
      stream.destroy();
    }
  };
  return {
    connect: (_, port) => connectUnix(hybridPortPath(path, port)),
    listen: async (port, onStream) => {
      if (ports.has(port)) throw new VsockError('unavailable', `Port ${port} is already in use`);
      ports.set(port, (stream) => onStream(stream, undefined));
      server ??= serveUnix(path, (stream) => void answer(stream));
      const listening = server;
      try {
        await listening;
      } catch (error) {
        ports.delete(port);
        // The next attempt begins afresh: what was in the way may be gone.
        if (server === listening) server = undefined;
        throw error;
      }
      return {
        close: async () => {
          ports.delete(port);
          if (ports.size > 0) return;
          const last = server;
          server = undefined;
          await (await last)?.close();
        },
      };
    },
  };
}

/** Opens a stream to a port of the guest behind `path`. @throws VsockError `not-listening` */
export async function dialHybrid(path: string, port: number): Promise<Socket> {
  const socket = await connectUnix(path);
  try {
    socket.write(`CONNECT ${port}\n`);
    const reply = await readLine(socket, MAX_REPLY, TIMEOUT_MS);
    if (!/^OK \d+$/.test(reply)) throw new Error(`the answer is ${JSON.stringify(reply)}`);
    return socket;
  } catch (cause) {
    socket.destroy();
    const reason = (cause as Error).message;
    throw new VsockError('not-listening', `Port ${port} behind ${path} is not reached: ${reason}`, { cause });
  }
}

/** @throws VsockError `not-listening` */
export async function connectUnix(path: string): Promise<Socket> {
  return await new Promise((resolve, reject) => {
    const socket = connect({ path });
    const failed = (cause: Error): void =>
      reject(new VsockError('not-listening', `Nothing listens at ${path}: ${cause.message}`, { cause }));
    socket.once('error', failed);
    socket.once('connect', () => {
      socket.off('error', failed);
      resolve(socket);
    });
  });
}

async function serveUnix(path: string, onStream: (stream: Socket) => void): Promise<VsockServer> {
  await removeStale(path);
  const server: Server = createServer({ allowHalfOpen: true }, (stream) => {
    stream.on('error', () => stream.destroy());
    onStream(stream);
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', (cause) =>
      reject(new VsockError('unavailable', `Cannot listen at ${path}: ${cause.message}`, { cause })),
    );
    server.listen(path, resolve);
  });
  return { close: async () => void server.close() };
}

/** The socket of a program that was killed; one that answers is somebody's. */
async function removeStale(path: string): Promise<void> {
  if (!isThere(path)) return;
  try {
    (await connectUnix(path)).destroy();
  } catch (error) {
    const { code } = ((error as Error).cause ?? {}) as NodeJS.ErrnoException;
    // A regular file refuses connections too, and is nobody's leftover.
    if (code === 'ECONNREFUSED' && lstatSync(path).isSocket()) rmSync(path, { force: true });
    return;
  }
  throw new VsockError('unavailable', `Another program listens at ${path}`);
}
