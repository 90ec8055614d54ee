import { connect, createServer, type Socket } from 'node:net';
import { VsockError } from './errors.ts';
import type { Vsock, VsockServer } from './vsock.ts';

/** TCP in the place of vsock: port P is port P of `host`, which has to be a loopback address. For tests. */
export function tcpVsock(host: string): Vsock {
  return {
    connect: (_, port) => connectTcp(host, port),
    listen: async (port, onStream): Promise<VsockServer> => {
      const server = createServer({ allowHalfOpen: true }, (stream) => {
        stream.on('error', () => stream.destroy());
        onStream(stream, undefined);
      });
      await new Promise<void>((resolve, reject) => {
        server.once('error', (cause) =>
          reject(
            new VsockError('unavailable', `Cannot listen at ${host}:${port}: ${cause.message}`, { cause }),
          ),
        );
        server.listen(port, host, resolve);
      });
      return { close: async () => void server.close() };
    },
  };
}

/** @throws VsockError `not-listening` */
export async function connectTcp(host: string, port: number, timeoutMs = 10_000): Promise<Socket> {
  return await new Promise((resolve, reject) => {
    const socket = connect({ host, port });
    const fail = (reason: string, cause?: unknown): void => {
      clearTimeout(timer);
      socket.destroy();
      reject(new VsockError('not-listening', `No connection to ${host}:${port}: ${reason}`, { cause }));
    };
    const timer = setTimeout(() => fail(`not within ${timeoutMs / 1000} s`), timeoutMs);
    const failed = (cause: Error): void => fail(cause.message, cause);
    socket.once('error', failed);
    socket.once('connect', () => {
      clearTimeout(timer);
      socket.off('error', failed);
      resolve(socket);
    });
  });
}
