import { createServer, type IncomingMessage } from 'node:http';
import type { AddressInfo } from 'node:net';
import {
  comesFromOtherSite,
  configureServer,
  createPrpcHandler,
  isLoopbackAddress,
  LISTEN_BACKLOG,
  type PlainResponse,
  type PlainRoute,
} from '@dstack-cloud/prpc';
import { WatcherError } from '../errors.ts';

/** Few programs ask, and each has few connections. */
const LIMITS = { max: 128, maxPerNetwork: 64, maxSilent: 32, maxSilentPerNetwork: 16 };
const MAX_BUFFERED = 2 ** 20;
const STOP_DEADLINE_MS = 2_000;

/** A listener that runs. */
export type Listener = {
  readonly url: string;
  readonly port: number;
  stop(): Promise<void>;
};

/** What is served where. */
export type ListenOptions = {
  readonly address: string;
  /** 0 takes a free one. */
  readonly port: number;
  readonly routes: readonly PlainRoute[];
};

/**
 * Serves routes that only read. On a loopback address only requests that name this machine as their host are answered,
 * and none that a page of another site makes: a browser of this machine is not to be led here by a name that resolves to
 * it (DNS rebinding).
 * @throws WatcherError `listen-failed`
 */
export async function listen({ address, port, routes }: ListenOptions): Promise<Listener> {
  const guard = isLoopbackAddress(address) ? refuseOthers : refuseOtherSites;
  const handler = createPrpcHandler({
    mounts: [],
    routes,
    guard,
    maxBufferedBytes: MAX_BUFFERED,
    headers: { 'X-Content-Type-Options': 'nosniff', 'Referrer-Policy': 'no-referrer' },
  });
  const server = configureServer(createServer(handler), LIMITS);
  try {
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen({ port, host: address, backlog: LISTEN_BACKLOG }, () => resolve());
    });
  } catch (cause) {
    throw new WatcherError('listen-failed', `Cannot listen on ${address}, port ${port}`, { cause });
  }
  const bound = server.address() as AddressInfo;
  const shown = bound.family === 'IPv6' ? `[${bound.address}]` : bound.address;
  return {
    url: `http://${shown}:${bound.port}`,
    port: bound.port,
    stop: () =>
      new Promise((resolve) => {
        const timer = setTimeout(() => server.closeAllConnections(), STOP_DEADLINE_MS);
        server.close(() => {
          clearTimeout(timer);
          resolve();
        });
        server.closeIdleConnections();
      }),
  };
}

const OTHER_HOST: PlainResponse = {
  status: 421,
  body: 'This is served to this machine alone, by its own names\n',
};
const NOT_ONE_HOST: PlainResponse = { status: 400, body: 'More than one Host header\n' };
const OTHER_SITE: PlainResponse = { status: 403, body: 'Requests from other sites are refused\n' };

function refuseOthers(request: IncomingMessage): PlainResponse | undefined {
  // RFC 9112 section 3.2: which of them is meant is anybody's guess.
  if ((request.headersDistinct['host']?.length ?? 0) > 1) return NOT_ONE_HOST;
  // Section 3.2.2: the host of a target in absolute form counts, and not the header.
  const [, target] = /^[a-z][a-z0-9+.-]*:\/\/([^/?#]*)/i.exec(request.url ?? '') ?? [];
  return namesThisMachine(target ?? request.headers.host) ? refuseOtherSites(request) : OTHER_HOST;
}

function refuseOtherSites(request: IncomingMessage): PlainResponse | undefined {
  return comesFromOtherSite(request) ? OTHER_SITE : undefined;
}

/** A loopback address or `localhost` (RFC 6761 section 6.3), with any port: one that is forwarded has another. */
function namesThisMachine(host: string | undefined): boolean {
  const name = /^(\[[0-9a-f:]+\]|[\w.-]+)(?::\d{1,5})?$/i.exec(host ?? '')?.[1]?.toLowerCase();
  return name !== undefined && isLoopbackAddress(name.replace(/^\[|\]$/g, ''));
}
