/**
 * The load process: reads one plan from standard input, drives it, writes one report to standard output.
 * A process of its own, so that the client's work is not measured as the server's; and as little work a request
 * as Node allows, so that the server is the limit: contexts are made once, requests are prepared bytes.
 */
import { connect as connectPlain, type Socket } from 'node:net';
import { connect, createSecureContext, type SecureContext } from 'node:tls';
import { percentile } from '../result.ts';
import type { LoadPlan, LoadReport } from './plan.ts';

const RESPONSE_TIMEOUT_MS = 30_000;

const chunks: Buffer[] = [];
for await (const chunk of process.stdin) chunks.push(chunk as Buffer);
const plan = JSON.parse(Buffer.concat(chunks).toString('utf8')) as LoadPlan;
const target = new URL(plan.url);
/** Digits of the number that stands for `{n}` in the body. */
const DIGITS = 8;
const bodyBytes = Buffer.byteLength(plan.body.replace('{n}', '0'.repeat(DIGITS)));
const text =
  `POST ${target.pathname}${target.search} HTTP/1.1\r\nHost: ${target.host}\r\n` +
  `Content-Type: application/json\r\nContent-Length: ${bodyBytes}\r\n\r\n${plan.body}`;
const fixed = plan.body.includes('{n}') ? undefined : Buffer.from(text);
let numbered = Math.floor(Math.random() * 10 ** (DIGITS - 1));

/** Bytes of the next request. */
function nextRequest(): Buffer {
  return fixed ?? Buffer.from(text.replace('{n}', String(numbered++).padStart(DIGITS, '0')));
}

const contexts: SecureContext[] = (plan.identities.length > 0 ? plan.identities : [{}]).map((identity) =>
  createSecureContext({ ...identity, minVersion: 'TLSv1.3' }),
);
const report = plan.collect === true ? await collect() : await drive();
// The pipe takes it in parts; the process must not end before the last.
process.stdout.write(`${JSON.stringify(report)}\n`, () => process.exit(0));

/** Lets each identity ask once. */
async function collect(): Promise<LoadReport> {
  const bodies: string[] = [];
  let next = 0;
  const worker = async (): Promise<void> => {
    for (let client = next++; client < contexts.length; client = next++) {
      const connection = await open(client);
      bodies[client] = (await connection.exchange()).toString('utf8');
      connection.close();
    }
  };
  await Promise.all(Array.from({ length: plan.concurrency }, worker));
  const { length } = bodies;
  return {
    completed: length,
    answered: length,
    failed: 0,
    perSecond: 0,
    p50Ms: 0,
    p99Ms: 0,
    answerBytes: 0,
    bodies,
  };
}

async function drive(): Promise<LoadReport> {
  const kept = plan.connections === 'kept' ? await openPool() : undefined;
  const start = performance.now();
  const from = start + plan.warmUpMs;
  const until = from + plan.durationMs;
  const latencies: number[] = [];
  let answered = 0;
  let failed = 0;
  let failure: string | undefined;
  let answerBytes = 0;
  let issued = 0;
  let client = 0;

  const exchange = async (connection: Connection, planned: number): Promise<void> => {
    answerBytes = (await connection.exchange()).length;
    answered++;
    const now = performance.now();
    if (now >= from && now <= until) latencies.push(now - planned);
  };
  const worker = async (): Promise<void> => {
    while (performance.now() < until) {
      let planned = performance.now();
      if (plan.rate !== undefined) {
        planned = start + (issued++ * 1000) / plan.rate;
        const wait = planned - performance.now();
        if (wait > 0) await new Promise((resolve) => setTimeout(resolve, wait));
      }
      // The pool is at least as large as the number of workers, so the first in line is free.
      let connection = kept?.shift();
      try {
        connection ??= await open(client++);
        await exchange(connection, planned);
        if (kept !== undefined) {
          kept.push(connection);
          continue;
        }
      } catch (error) {
        failed++;
        failure ??= String(error);
      }
      connection?.close();
    }
  };
  await Promise.all(Array.from({ length: plan.concurrency }, worker));
  for (const connection of kept ?? []) connection.close();
  return {
    completed: latencies.length,
    answered,
    failed,
    ...(failure === undefined ? {} : { failure }),
    perSecond: (latencies.length * 1000) / plan.durationMs,
    p50Ms: latencies.length === 0 ? Number.NaN : percentile(latencies, 0.5),
    p99Ms: latencies.length === 0 ? Number.NaN : percentile(latencies, 0.99),
    answerBytes,
  };
}

/** One connection for each identity, used in turn, so that all of them ask. */
async function openPool(): Promise<Connection[]> {
  const pool: Connection[] = [];
  const size = Math.max(plan.concurrency, plan.identities.length);
  let next = 0;
  const worker = async (): Promise<void> => {
    for (let client = next++; client < size; client = next++) pool.push(await open(client));
  };
  await Promise.all(Array.from({ length: plan.concurrency }, worker));
  return pool;
}

/** One connection, of TLS unless the URL is plain, that carries one request at a time. */
type Connection = { exchange(): Promise<Buffer>; close(): void };

function open(client: number): Promise<Connection> {
  const secureContext = contexts[client % contexts.length];
  return new Promise((resolve, reject) => {
    const address = plan.socketPath
      ? { path: plan.socketPath }
      : {
          host: target.hostname,
          port: Number(target.port),
          ...(plan.localAddress === undefined ? {} : { localAddress: plan.localAddress }),
        };
    const plain = target.protocol === 'http:';
    const socket: Socket = plain
      ? connectPlain(address)
      : connect({ ...address, rejectUnauthorized: false, ...(secureContext ? { secureContext } : {}) });
    if (plan.socketPath === undefined) socket.setNoDelay(true);
    socket.setTimeout(RESPONSE_TIMEOUT_MS, () => socket.destroy(new Error('timeout')));
    socket.once('error', reject);
    socket.once(plain ? 'connect' : 'secureConnect', () => resolve(talk(socket)));
  });
}

function talk(socket: Socket): Connection {
  let pending: { resolve(body: Buffer): void; reject(error: Error): void } | undefined;
  let received: Buffer = Buffer.alloc(0);
  const fail = (error: Error) => {
    pending?.reject(error);
    pending = undefined;
  };
  socket.on('error', fail);
  socket.on('close', () => fail(new Error('closed')));
  socket.on('data', (chunk: Buffer) => {
    received = received.length === 0 ? chunk : Buffer.concat([received, chunk]);
    const head = received.indexOf('\r\n\r\n');
    if (head < 0) return;
    const text = received.toString('latin1', 0, head);
    const length = Number(/content-length: (\d+)/i.exec(text)?.[1]);
    if (received.length < head + 4 + length) return;
    const done = pending;
    pending = undefined;
    const body = received.subarray(head + 4);
    received = Buffer.alloc(0);
    if (text.startsWith('HTTP/1.1 200')) done?.resolve(body);
    else done?.reject(new Error(`${text.slice(0, 30)}: ${body.toString('utf8').slice(0, 300)}`));
  });
  return {
    exchange: () =>
      new Promise((resolve, reject) => {
        pending = { resolve, reject };
        socket.write(nextRequest());
      }),
    close: () => socket.destroy(),
  };
}
