import { createServer, type Server } from 'node:http';
import type { DcapCollateral } from '@dstack-cloud/attestation';
import { toHex } from '@dstack-cloud/encoding';
import { SimulatorError } from '../errors.ts';
import type { SimulatedGcp } from '../gcp/gcp-platform.ts';
import type { SimulatedPlatform } from '../platform.ts';
import type { CollateralOptions } from '../tdx/collateral.ts';
import { type PcsResponse, type PcsSource, pcsResponse } from './pcs-responses.ts';
import { type VtpmAuthority, vtpmAuthority } from './vtpm-authority.ts';

const RENEW_SECONDS = 3600;
const REQUEST_TIMEOUT_MS = 10_000;

export interface CollateralServerOptions {
  /** 0 (default) for any free port. */
  readonly port?: number;
  /** Loopback by default; the simulator has no business on a network. */
  readonly host?: string;
  /** Unix seconds; default the wall clock. */
  readonly now?: () => number;
  /** Authorities of simulated vTPMs, which it serves too. */
  readonly gcp?: SimulatedGcp;
  /** What is wrong with the collateral, for tests of refusals. */
  readonly collateral?: CollateralOptions;
}

export interface CollateralServer {
  /** `http://127.0.0.1:PORT` */
  readonly url: string;
  readonly port: number;
  close(): Promise<void>;
}

/**
 * Serves a simulated platform's collateral over the paths of Intel's PCS v4. Dates are refreshed with the clock, so
 * a long run never sees them expire. Every answer carries `X-Dstack-Simulated: true`.
 * @throws SimulatorError `listen`
 */
export async function collateralServer(
  platform: SimulatedPlatform,
  options: CollateralServerOptions = {},
): Promise<CollateralServer> {
  const { host = '127.0.0.1', port = 0 } = options;
  const source = renewedSource(platform, options);
  const vtpm = options.gcp && vtpmAuthority(options.gcp, options.now ?? unixSeconds);
  const server = createServer({ requestTimeout: REQUEST_TIMEOUT_MS }, (request, response) => {
    const answer = respond(request.method, request.url, source, vtpm);
    response.writeHead(answer.status, {
      'Content-Type': answer.type,
      'Content-Length': Buffer.byteLength(answer.body),
      'X-Dstack-Simulated': 'true',
      // The verifier's page asks from another origin, and reads issuer chains from headers.
      'Access-Control-Allow-Origin': '*',
      'Access-Control-Expose-Headers': '*',
      ...answer.headers,
    });
    response.end(request.method === 'HEAD' ? undefined : answer.body);
  });
  await listen(server, port, host);
  const address = server.address();
  const bound = typeof address === 'object' && address !== null ? address.port : port;
  return {
    url: `http://${host}:${bound}`,
    port: bound,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

function respond(
  method: string | undefined,
  url: string | undefined,
  source: PcsSource,
  vtpm: VtpmAuthority | undefined,
): PcsResponse {
  if (method !== 'GET' && method !== 'HEAD') {
    return { status: 405, type: 'text/plain', body: 'Only GET\n', headers: { Allow: 'GET' } };
  }
  try {
    const parsed = new URL(url ?? '/', 'http://simulator.invalid');
    return vtpm?.(parsed.pathname) ?? pcsResponse(parsed, source);
  } catch {
    return { status: 400, type: 'text/plain', body: 'Bad request\n' };
  }
}

const unixSeconds = (): number => Math.floor(Date.now() / 1000);

/** Signs once an hour, not once a request. */
function renewedSource(platform: SimulatedPlatform, options: CollateralServerOptions): PcsSource {
  const now = options.now ?? unixSeconds;
  const made = new Map<'tdx' | 'sgx', { hour: number; collateral: DcapCollateral }>();
  return {
    fmspc: toHex(platform.fmspc).toUpperCase(),
    collateral(tee) {
      const hour = Math.floor(now() / RENEW_SECONDS);
      const kept = made.get(tee);
      if (kept?.hour === hour) return kept.collateral;
      const collateral = platform.collateral(now(), { ...options.collateral, tee });
      made.set(tee, { hour, collateral });
      return collateral;
    },
  };
}

function listen(server: Server, port: number, host: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', (cause: NodeJS.ErrnoException) => {
      const reason = cause.code === 'EADDRINUSE' ? 'another program uses it' : cause.message;
      reject(new SimulatorError('listen', `Cannot listen on ${host}:${port}: ${reason}`, { cause }));
    });
    server.listen(port, host, () => resolve());
  });
}
