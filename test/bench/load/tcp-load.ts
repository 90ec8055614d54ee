/**
 * Loads a TCP proxy that routes by server name: reads one plan from standard input, writes one report. Clients of passed-through
 * connections send the same ClientHello and wait for the backend's answer; those of `tls` end their TLS at the server.
 */
import { createServer, type Socket, connect as tcpConnect } from 'node:net';
import { connect as tlsConnect } from 'node:tls';
import { percentile } from '../result.ts';

export type TcpPlan = {
  readonly port: number;
  /** Default 127.0.0.1. */
  readonly host?: string;
  readonly servername: string;
  /** `fresh`: a connection for each exchange; `kept`: exchanges over a few; `relay`: bytes that come; `idle`: connections that are held. */
  readonly kind: 'fresh' | 'kept' | 'relay' | 'idle';
  readonly tls: boolean;
  readonly concurrency: number;
  readonly durationMs: number;
  /** Exchanges a second; a closed loop without it. */
  readonly rate?: number;
};

export type TcpReport = {
  readonly completed: number;
  readonly failed: number;
  readonly failure?: string;
  readonly bytes: number;
  readonly seconds: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
};

const PING = Buffer.from('ping');
const TIMEOUT_MS = 20_000;

const chunks: Buffer[] = [];
const input = process.stdin[Symbol.asyncIterator]() as AsyncIterator<Buffer>;
const first = await input.next();
chunks.push(first.value as Buffer);
const plan = JSON.parse(Buffer.concat(chunks).toString('utf8')) as TcpPlan;
const hello = await helloOf(plan.servername);
let source = 0;
process.stdout.write(`${JSON.stringify(await run())}\n`);
// Idle connections are held until the bench has looked.
if (plan.kind === 'idle') await input.next();
process.exit(0);

async function run(): Promise<TcpReport> {
  const latencies: number[] = [];
  let [bytes, failed, failure, issued] = [0, 0, undefined as string | undefined, 0];
  const start = performance.now();
  const until = start + plan.durationMs;
  const worker = async (): Promise<void> => {
    let kept: Socket | undefined;
    while (performance.now() < until) {
      let planned = performance.now();
      if (plan.rate !== undefined) {
        planned = start + (issued++ * 1000) / plan.rate;
        const wait = planned - performance.now();
        if (wait > 0) await new Promise((resolve) => setTimeout(resolve, wait));
      }
      try {
        if (plan.kind === 'relay') {
          const socket = await open();
          bytes += await received(socket, until);
          socket.destroy();
          continue;
        }
        const isNew = kept === undefined;
        const socket = kept ?? (await open());
        if (!isNew || plan.tls) await exchange(socket);
        if (plan.kind === 'kept') kept = socket;
        else socket.destroy();
        if (plan.kind === 'fresh' || !isNew) latencies.push(performance.now() - planned);
      } catch (error) {
        failed += 1;
        failure ??= String(error);
        kept = undefined;
      }
    }
    kept?.destroy();
  };
  if (plan.kind === 'idle') {
    let left = plan.concurrency;
    const opener = async (): Promise<void> => {
      while (left-- > 0) {
        try {
          await open();
          latencies.push(0);
        } catch (error) {
          failed += 1;
          failure ??= String(error);
        }
      }
    };
    await Promise.all(Array.from({ length: 64 }, opener));
  } else await Promise.all(Array.from({ length: plan.concurrency }, worker));
  return {
    completed: latencies.length,
    failed,
    ...(failure !== undefined && { failure }),
    bytes,
    seconds: (performance.now() - start) / 1000,
    p50Ms: latencies.length === 0 ? 0 : percentile(latencies, 0.5),
    p99Ms: latencies.length === 0 ? 0 : percentile(latencies, 0.99),
  };
}

/** A connection that the backend has answered once, or whose TLS handshake is over. */
function open(): Promise<Socket> {
  // One source has not enough ports for many.
  const localAddress = `127.${20 + (source++ % 40)}.0.1`;
  const to = { port: plan.port, host: plan.host ?? '127.0.0.1', localAddress };
  return new Promise((resolve, reject) => {
    const socket = plan.tls
      ? tlsConnect({ ...to, servername: plan.servername, rejectUnauthorized: false })
      : tcpConnect({ ...to, noDelay: true });
    const timer = setTimeout(() => socket.destroy(new Error('timeout')), TIMEOUT_MS);
    const fail = (error?: Error): void => {
      clearTimeout(timer);
      reject(error ?? new Error('closed'));
    };
    socket.once('error', fail);
    socket.once('close', fail);
    const isOpen = (): void => {
      clearTimeout(timer);
      socket.off('close', fail);
      socket.off('error', fail);
      socket.on('error', () => socket.destroy());
      resolve(socket);
    };
    if (plan.tls) return void socket.once('secureConnect', isOpen);
    socket.once('connect', () => socket.write(hello));
    socket.once('data', isOpen);
  });
}

function exchange(socket: Socket): Promise<void> {
  return new Promise((resolve, reject) => {
    const closed = (): void => reject(new Error('closed'));
    socket.once('close', closed);
    socket.once('data', () => {
      socket.off('close', closed);
      resolve();
    });
    socket.write(PING);
  });
}

function received(socket: Socket, until: number): Promise<number> {
  return new Promise((resolve) => {
    let bytes = 0;
    socket.on('data', (chunk: Buffer) => {
      bytes += chunk.length;
      if (performance.now() >= until) resolve(bytes);
    });
    socket.once('close', () => resolve(bytes));
  });
}

async function helloOf(servername: string): Promise<Buffer> {
  return await new Promise((resolve) => {
    const server = createServer((socket) => {
      socket.on('error', () => socket.destroy());
      socket.once('data', (data) => {
        resolve(data);
        socket.destroy();
        server.close();
      });
    }).listen(0, '127.0.0.1', () => {
      const { port } = server.address() as { port: number };
      tlsConnect({ port, host: '127.0.0.1', servername }).on('error', () => undefined);
    });
  });
}
