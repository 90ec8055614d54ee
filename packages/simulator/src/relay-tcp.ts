import { connect, createServer, type Socket } from 'node:net';
import { SimulatorError } from '@dstack-cloud/tee-simulator';

const MAX_CONNECTIONS = 64;

/** A TCP listener whose connections lead to a Unix socket. */
export interface TcpRelay {
  /** `http://HOST:PORT` */
  readonly url: string;
  close(): void;
}

/** Serves a Unix socket by TCP. @throws SimulatorError `argument`, `listen` */
export async function relayTcp(address: string, socketPath: string): Promise<TcpRelay> {
  const found = /^(?:\[([0-9a-fA-F:]+)\]|([^:]+)):([0-9]{1,5})$/.exec(address);
  const port = Number(found?.[3]);
  if (found === null || port > 65_535)
    throw new SimulatorError('argument', `--listen ${address} is not HOST:PORT`);
  const host = found[1] ?? found[2] ?? '';
  const open = new Set<Socket>();
  const server = createServer({ allowHalfOpen: true }, (outside) => {
    const inside = connect({ path: socketPath, allowHalfOpen: true });
    for (const [one, other] of [
      [outside, inside],
      [inside, outside],
    ] as const) {
      open.add(one);
      one.once('close', () => {
        open.delete(one);
        other.destroy();
      });
      one.once('error', () => other.destroy());
      one.pipe(other);
    }
  });
  server.maxConnections = MAX_CONNECTIONS;
  await new Promise<void>((resolve, reject) => {
    server.once('error', (cause: NodeJS.ErrnoException) => {
      const why = cause.code === 'EADDRINUSE' ? 'another program uses it' : cause.message;
      reject(new SimulatorError('listen', `Cannot listen on ${address}: ${why}`, { cause }));
    });
    server.listen(port, host, () => resolve());
  });
  const bound = server.address();
  const actual = typeof bound === 'object' && bound !== null ? bound.port : port;
  return {
    url: `http://${host.includes(':') ? `[${host}]` : host}:${actual}`,
    close: () => {
      server.close();
      for (const socket of open) socket.destroy();
    },
  };
}
