import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { createHandler, type Services } from './handler.ts';

const STOP_DEADLINE_MS = 5_000;
/** How often a stopping service looks for connections that have become idle. */
const STOP_POLL_MS = 50;

const LIMITS = {
  requestTimeout: 10_000,
  headersTimeout: 5_000,
  // Node looks only this often whether one of the two has passed.
  connectionsCheckingInterval: 1_000,
  keepAliveTimeout: 60_000,
  maxHeaderSize: 16_384,
};

/** The listening service. */
export type RunningServer = {
  readonly url: string;
  /** Finish what is under way, then stop; cut off what is left after 5 s. */
  stop(): Promise<void>;
};

/** Listen and answer. Port 0 takes a free one. */
export async function startServer(services: Services, host: string, port: number): Promise<RunningServer> {
  const server = createServer(LIMITS, createHandler(services));
  server.maxConnections = 1_024;
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, host, () => resolve());
  });
  const address = server.address() as AddressInfo;
  const shown = address.family === 'IPv6' ? `[${address.address}]` : address.address;
  return { url: `http://${shown}:${address.port}`, stop: () => stop(server) };
}

function stop(server: Server): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(() => server.closeAllConnections(), STOP_DEADLINE_MS);
    // A kept connection whose last request ends only now is not closed by Node.
    const idle = setInterval(() => server.closeIdleConnections(), STOP_POLL_MS);
    server.close(() => {
      clearTimeout(timer);
      clearInterval(idle);
      resolve();
    });
  });
}
