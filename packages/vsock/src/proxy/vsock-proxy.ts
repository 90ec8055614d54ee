import { createServer as createHttpServer } from 'node:http';
import { createServer, type Socket } from 'node:net';
import { networkOf } from '@dstack-cloud/prpc';
import { withTimeout } from '@dstack-cloud/runtime';
import { VsockError } from '../errors.ts';
import { connectTcp } from '../tcp.ts';
import type { Vsock, VsockServer } from '../vsock.ts';
import { joinStreams } from './join-streams.ts';
import type { Mapping, ProxyConfig } from './proxy-config.ts';
import { ProxyMetrics, type Way } from './proxy-metrics.ts';
import { readConnect } from './read-connect.ts';
import { listenReports } from './reports.ts';
import { Slots } from './slots.ts';
import { type AllowedTarget, addressOf, type Resolve, resolveByDns } from './targets.ts';

/** Says what happened to a connection; bounded by who writes it. */
type ProxyLog = (message: string, fields: { readonly source: string; readonly reason: string }) => void;

export interface ProxyOptions {
  readonly config: ProxyConfig;
  readonly vsock: Vsock;
  readonly log: ProxyLog;
  readonly resolve?: Resolve;
}

/** A running proxy. */
export interface VsockProxy {
  readonly metrics: ProxyMetrics;
  readonly open: number;
  close(): Promise<void>;
}

const STATUS: Readonly<Record<number, string>> = {
  200: 'Connection established',
  400: 'Bad Request',
  403: 'Forbidden',
  405: 'Method Not Allowed',
  408: 'Request Timeout',
  431: 'Request Header Fields Too Large',
  502: 'Bad Gateway',
};
/** A refusal is written, and then nobody is waited for. */
const REFUSAL_MS = 1000;

/**
 * The host's side of an enclave's network: it carries bytes to the targets that the configuration names and to no other,
 * and can read none of them, since the enclave speaks TLS.
 *
 * @throws VsockError when an address cannot be listened to; nothing is then left open
 */
export async function startVsockProxy(options: ProxyOptions): Promise<VsockProxy> {
  const { config, vsock, log, resolve = resolveByDns } = options;
  const { limits } = config;
  // Strangers who come in must not take the places that the enclave needs to get out.
  const slots = { outward: new Slots(limits), inward: new Slots(limits) };
  const open = (): number => slots.outward.open + slots.inward.open;
  const metrics = new ProxyMetrics(open);
  const streams = new Set<Socket>();
  const servers: VsockServer[] = [];
  const idleMs = limits.idle_seconds * 1000;
  const connectMs = limits.connect_seconds * 1000;
  // Strangers connect inwards: one that says nothing keeps its place for a shorter time.
  const firstMs = { ingress: limits.first_byte_seconds * 1000, egress: idleMs, connect: idleMs };

  /** Holds a place for the stream until `serve` has ended, which is not before the stream is closed. */
  const guarded = (way: Way, near: Socket, source: string, serve: () => Promise<void>): void => {
    near.on('error', () => near.destroy());
    const giveBack = (way === 'ingress' ? slots.inward : slots.outward).take(source);
    if (giveBack === undefined) {
      metrics.ended(way, 'full');
      log('connection turned away', { source, reason: 'too many connections' });
      near.destroy();
      return;
    }
    streams.add(near);
    const done = (): void => {
      streams.delete(near);
      giveBack();
    };
    serve().then(done, (error: unknown) => {
      near.destroy();
      metrics.ended(way, 'unreachable');
      log('connection failed', { source, reason: (error as Error).message });
      done();
    });
  };

  const carry = async (way: Way, near: Socket, far: Socket): Promise<void> => {
    streams.add(far);
    const { sent, received, reason } = await joinStreams(near, far, idleMs, firstMs[way]);
    streams.delete(far);
    metrics.ended(way, reason === 'ended' ? 'done' : reason);
    if (way === 'ingress') metrics.flowed(received, sent);
    else metrics.flowed(sent, received);
  };

  const serveConnect = async (near: Socket, source: string): Promise<void> => {
    const { allow, allow_private: allowPrivate } = config.connect!;
    const request = await readConnect(near, limits);
    const refuse = (
      status: number,
      outcome: 'bad-request' | 'refused' | 'unreachable',
      reason: string,
    ): Promise<void> => {
      metrics.ended('connect', outcome);
      log('request refused', { source, reason });
      return refuseWith(near, status);
    };
    if ('status' in request) return await refuse(request.status, 'bad-request', request.reason);
    const { host, port } = request.target;
    if (!allow.some((one) => isSame(one, request.target)))
      return await refuse(403, 'refused', `${host}:${port} is not allowed`);
    const address = await withTimeout(addressOf(host, allowPrivate, resolve), connectMs).catch(() => null);
    if (address === null) return await refuse(502, 'unreachable', `${host} has no address`);
    if (address === undefined)
      return await refuse(403, 'refused', `${host} resolves to an address that must not be reached`);
    const far = await connectTcp(address, port, connectMs).catch((error: unknown) => error as Error);
    if (far instanceof Error) return await refuse(502, 'unreachable', far.message);
    if (near.destroyed) {
      far.destroy();
      return;
    }
    near.write(`HTTP/1.1 200 ${STATUS[200]}\r\n\r\n`);
    await carry('connect', near, far);
  };

  const listenMapping = async (mapping: Mapping): Promise<VsockServer> => {
    if (mapping.direction === 'egress') {
      const { host, port } = mapping.target;
      return await vsock.listen(mapping.vsock_port, (near, cid) =>
        guarded('egress', near, sourceOf(cid), async () =>
          carry('egress', near, await connectTcp(host, port, connectMs)),
        ),
      );
    }
    const { listen, enclave_cid: cid, enclave_port: port } = mapping;
    return await listenTcp(listen, (near) =>
      guarded('ingress', near, networkOf(near.remoteAddress ?? 'gone'), async () =>
        carry('ingress', near, await vsock.connect(cid, port)),
      ),
    );
  };

  const close = async (): Promise<void> => {
    const closing = servers.map((server) => server.close());
    for (const stream of streams) stream.destroy();
    await Promise.all(closing);
  };

  try {
    if (config.connect !== undefined)
      servers.push(
        await vsock.listen(config.connect.vsock_port, (near, cid) => {
          const source = sourceOf(cid);
          guarded('connect', near, source, () => serveConnect(near, source));
        }),
      );
    if (config.reports !== undefined)
      servers.push(
        await listenReports(vsock, config.reports, (cid, reason) =>
          log('enclave reports', { source: sourceOf(cid), reason }),
        ),
      );
    for (const mapping of config.mappings) servers.push(await listenMapping(mapping));
    if (config.metrics !== undefined) servers.push(await listenMetrics(config.metrics, metrics));
  } catch (error) {
    await close();
    throw error;
  }
  return {
    metrics,
    get open() {
      return open();
    },
    close,
  };
}

function sourceOf(cid: number | undefined): string {
  return cid === undefined ? 'enclave' : `cid ${cid}`;
}

function isSame(one: AllowedTarget, other: AllowedTarget): boolean {
  return one.host === other.host && one.port === other.port;
}

/** Resolves when the stream is closed. */
async function refuseWith(stream: Socket, status: number): Promise<void> {
  if (stream.destroyed) return;
  stream.end(`HTTP/1.1 ${status} ${STATUS[status]}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n`);
  const timer = setTimeout(() => stream.destroy(), REFUSAL_MS);
  stream.resume();
  await new Promise<void>((resolve) => stream.once('close', () => resolve()));
  clearTimeout(timer);
}

async function listenTcp(
  { host, port }: { readonly host: string; readonly port: number },
  onStream: (stream: Socket) => void,
): Promise<VsockServer> {
  const server = createServer({ allowHalfOpen: true }, onStream);
  await listening(server, host, port);
  return { close: async () => void server.close() };
}

async function listenMetrics(
  { host, port }: { readonly host: string; readonly port: number },
  metrics: ProxyMetrics,
): Promise<VsockServer> {
  const server = createHttpServer({ requestTimeout: 5000, headersTimeout: 5000 }, (request, response) => {
    const isKnown = request.method === 'GET' && request.url === '/metrics';
    response.writeHead(isKnown ? 200 : 404, { 'content-type': 'text/plain; version=0.0.4' });
    response.end(isKnown ? metrics.text() : '');
  });
  server.maxConnections = 16;
  await listening(server, host, port);
  return {
    close: async () => {
      server.close();
      server.closeAllConnections();
    },
  };
}

async function listening(server: ReturnType<typeof createServer>, host: string, port: number): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    server.once('error', (cause) =>
      reject(new VsockError('unavailable', `Cannot listen at ${host}:${port}: ${cause.message}`, { cause })),
    );
    server.listen(port, host, () => resolve());
  });
}
