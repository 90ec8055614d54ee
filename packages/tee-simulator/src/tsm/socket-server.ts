import { lstat, unlink } from 'node:fs/promises';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { SimulatorError } from '../errors.ts';

/** sun_path of Linux holds 108 bytes with its end. */
const MAX_SOCKET_PATH = 107;
const MAX_CONNECTIONS = 64;

export interface SocketServer {
  readonly path: string;
  close(): Promise<void>;
}

/**
 * Listens on a unix socket, readable by its owner alone. A socket file that nobody listens on is replaced.
 * @throws SimulatorError `listen`
 */
export async function listenOnSocket(
  path: string,
  onConnection: (socket: Socket) => void,
): Promise<SocketServer> {
  if (Buffer.byteLength(path) > MAX_SOCKET_PATH) {
    throw new SimulatorError('listen', `Socket path is longer than ${MAX_SOCKET_PATH} bytes: ${path}`);
  }
  if (await answers(path)) throw new SimulatorError('listen', `Another program listens on ${path}`);
  await removeDeadSocket(path);
  const open = new Set<Socket>();
  const server = createServer((socket) => {
    open.add(socket);
    socket.on('close', () => open.delete(socket));
    socket.on('error', () => socket.destroy());
    onConnection(socket);
  });
  server.maxConnections = MAX_CONNECTIONS;
  await bind(server, path);
  return {
    path,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        for (const socket of open) socket.destroy();
      }),
  };
}

/** Only a socket, and only one of this user: whatever else lies under the name stays, and listening fails. */
async function removeDeadSocket(path: string): Promise<void> {
  const status = await lstat(path).catch(() => undefined);
  if (status?.isSocket() && status.uid === process.geteuid?.()) await unlink(path);
}

function bind(server: Server, path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', (cause) =>
      reject(new SimulatorError('listen', `Cannot listen on ${path}: ${cause.message}`, { cause })),
    );
    const mask = process.umask(0o177);
    try {
      server.listen(path, () => resolve());
    } finally {
      process.umask(mask);
    }
  });
}

function answers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ path });
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => resolve(false));
  });
}
