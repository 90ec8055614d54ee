import { createHash } from 'node:crypto';
import { createServer, type Server } from 'node:net';
import { resolve as resolvePath } from 'node:path';
import { AttestationError } from '../../errors.ts';

const POLL_MS = 5;
const WAIT_MS = 60_000;

/**
 * Runs `body` while no other program of this machine works on the same log. The lock is an abstract unix socket named
 * by the log's path: the kernel gives it to one process and takes it back when that process ends, however it ends.
 * @throws AttestationError `device` when another program keeps it for a minute
 */
export function withLogLock<T>(path: string, body: () => Promise<T>): Promise<T> {
  const key = resolvePath(path);
  // Within this process in order of arrival; only the first of each process asks for the socket.
  const turn = (queues.get(key) ?? Promise.resolve()).then(() => locked(key, body));
  queues.set(
    key,
    turn.catch(() => undefined),
  );
  return turn;
}

const queues = new Map<string, Promise<unknown>>();

async function locked<T>(path: string, body: () => Promise<T>): Promise<T> {
  const name = createHash('sha256').update(path).digest('hex').slice(0, 32);
  const lock = await acquire(`\0dstack-runtime-events-${name}`, path);
  try {
    return await body();
  } finally {
    await new Promise<void>((resolve) => {
      lock.close(() => resolve());
    });
  }
}

async function acquire(name: string, path: string): Promise<Server> {
  const deadline = performance.now() + WAIT_MS;
  for (;;) {
    const server = await tryListen(name);
    if (server) return server;
    if (performance.now() > deadline) {
      throw new AttestationError('device', `Another program holds the lock of ${path}`);
    }
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}

function tryListen(name: string): Promise<Server | undefined> {
  return new Promise((resolve, reject) => {
    // Nobody has a reason to connect.
    const server = createServer((socket) => socket.destroy());
    server.once('error', (cause: NodeJS.ErrnoException) => {
      if (cause.code === 'EADDRINUSE') resolve(undefined);
      else reject(new AttestationError('device', 'The lock of the event log cannot be taken', { cause }));
    });
    server.listen(name, () => resolve(server));
  });
}
