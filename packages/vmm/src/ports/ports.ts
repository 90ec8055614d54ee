import { createServer } from 'node:net';
import { VmmError } from '../errors.ts';

/** A TCP port of the loopback interface that nobody listens on now. */
export async function freePort(address: string = '127.0.0.1'): Promise<number> {
  return await listenOnce(address, 0);
}

/** Throws `port_in_use` when somebody listens on this port. */
export async function requireFreePort(port: number, address: string = '127.0.0.1'): Promise<void> {
  try {
    await listenOnce(address, port);
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    if (code === 'EADDRINUSE')
      throw new VmmError(
        'port_in_use',
        `Port ${port} on ${address} is in use. Stop the program that listens there, or choose another port.`,
        { expected: 'free', found: 'in use' },
      );
    throw new VmmError('bad_option', `Cannot listen on ${address}:${port}: ${code ?? String(error)}`, {
      cause: error,
    });
  }
}

async function listenOnce(address: string, port: number): Promise<number> {
  return await new Promise((resolve, reject) => {
    const server = createServer();
    server.once('error', reject);
    server.listen({ host: address, port, exclusive: true }, () => {
      const bound = server.address();
      server.close(() => resolve(typeof bound === 'object' && bound !== null ? bound.port : port));
    });
  });
}
