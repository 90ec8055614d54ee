import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { configureServer, LISTEN_BACKLOG, networkOf } from '@dstack-cloud/prpc';
import { createHandler, type Services } from './handler.ts';

const STOP_DEADLINE_MS = 5_000;
/** How often a stopping service looks for connections that have become idle. */
const STOP_POLL_MS = 50;

/** Who asks is a key service, which has many connections, and keeps them. */
const TIMES = { requestTimeout: 10_000, headersTimeout: 5_000, keepAliveTimeout: 60_000 };
export const CONNECTIONS = {
  max: 1_024,
  maxPerNetwork: 512,
  maxSilentPerNetwork: 128,
  costPerMinute: 6_000,
  costBurst: 2_000,
};

/** The listening service. */
export type RunningServer = {
  readonly url: string;
  /** Finish what is under way, then stop; cut off what is left after 5 s. */
  stop(): Promise<void>;
};

/** Listen and answer. Port 0 takes a free one. */
export async function startServer(services: Services, host: string, port: number): Promise<RunningServer> {
  const { metrics, log } = services;
  const server = configureServer(createServer(createHandler(services)), {
    ...CONNECTIONS,
    onTurnedAway: (reason, address) => {
      metrics.connectionRefused(reason);
      log.warn({ source: networkOf(address), reason }, 'Connection turned away');
    },
    onCut: (reason, address) => {
      metrics.connectionRefused(reason);
      log.warn({ source: networkOf(address), reason }, 'Connection cut');
    },
  });
  Object.assign(server, TIMES);
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen({ port, host, backlog: LISTEN_BACKLOG }, () => resolve());
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
