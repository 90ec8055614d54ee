/** What strangers can make the service do, and what is left to others meanwhile. */
import { connect } from 'node:net';
import type { Policy } from '@dstack-cloud/policy';
import { pino } from 'pino';
import { afterEach, expect, test } from 'vitest';
import { createMetrics } from './metrics.ts';
import { QUESTION_LIMITS } from './question-limits.ts';
import { CONNECTIONS, type RunningServer, startServer } from './server.ts';

const question = JSON.stringify({
  mrAggregated: '55'.repeat(32),
  osImageHash: '77'.repeat(32),
  appId: '11'.repeat(20),
  composeHash: '22'.repeat(32),
  instanceId: '',
  deviceId: '44'.repeat(32),
});
const manyKeys = (bytes: number): string => {
  const keys = Array.from({ length: Math.ceil(bytes / 7) }, (_, index) => `"k${index}":1`);
  return `{${keys.join()}}`.slice(0, bytes - 1).replace(/,[^,]*$/, '}');
};

let server: RunningServer;
afterEach(() => server.stop());

async function serve(): Promise<number> {
  const policy: Policy = {
    authorize: async () => ({ allowed: true, reason: '', gatewayAppId: '' }),
    describe: async () => ({}),
  };
  const services = { policy, log: pino({ level: 'silent' }), metrics: createMetrics(() => undefined) };
  server = await startServer(services, '127.0.0.1', 0);
  return Number(new URL(server.url).port);
}

/** Sends so many bodies by one connection, all at once, and returns the statuses it gets until that ends. */
function send(port: number, from: string, bodies: readonly string[], headers = ''): Promise<string[]> {
  return new Promise((resolve) => {
    let text = '';
    const socket = connect({ host: '127.0.0.1', port, localAddress: from });
    socket.on('error', () => undefined);
    socket.on('data', (chunk: Buffer) => {
      text += chunk.toString();
      if (statuses().length === bodies.length) socket.destroy();
    });
    socket.once('close', () => resolve(statuses()));
    const statuses = (): string[] => [...text.matchAll(/HTTP\/1\.1 (\d+)/g)].map(([, status]) => status!);
    for (const body of bodies) {
      const framing =
        headers === ''
          ? `Content-Length: ${body.length}\r\n\r\n${body}`
          : `${headers}\r\n\r\n${body.length.toString(16)}\r\n${body}\r\n0\r\n\r\n`;
      socket.write(`POST /bootAuth/app HTTP/1.1\r\nHost: a\r\n${framing}`);
    }
  });
}

const addresses = Array.from({ length: 8 }, (_, index) => `127.0.3.${index + 1}`);
const ask = async (): Promise<unknown> =>
  (await fetch(`${server.url}/bootAuth/app`, { method: 'POST', body: question })).json();

test.each([
  ['with their length', ''],
  ['in chunks', 'Transfer-Encoding: chunked'],
])('bodies of many keys, %s, cost their addresses what they have, and others nothing', async (_, headers) => {
  const port = await serve();
  const body = manyKeys(QUESTION_LIMITS.bytes);
  const began = performance.now();
  let isFlooded = true;
  const flood = Promise.all(
    addresses.map(async (from) => {
      const seen: string[] = [];
      // Far more than an address can pay for.
      for (let turn = 0; turn < 200 && !seen.includes('429') && !seen.includes('closed'); turn++) {
        const statuses = await send(port, from, [body, body], headers);
        seen.push(...(statuses.length === 0 ? ['closed'] : statuses));
      }
      return seen;
    }),
  ).finally(() => {
    isFlooded = false;
  });
  let answered = 0;
  while (isFlooded || answered < 5) {
    expect(await ask()).toMatchObject({ isAllowed: true });
    answered += 1;
  }
  const seen = await flood;
  const seconds = (performance.now() - began) / 1_000;

  for (const statuses of seen) {
    expect(statuses[0]).toBe('400');
    expect(statuses.at(-1)).toMatch(/429|closed/);
    expect(statuses.filter((status) => !/400|429|closed/.test(status))).toEqual([]);
  }
  // What was parsed is what was paid for.
  const cost = (body.length - QUESTION_LIMITS.freeBytes) / QUESTION_LIMITS.costBytes;
  const { costBurst, costPerMinute } = CONNECTIONS;
  const paid = (addresses.length * (costBurst + (costPerMinute / 60) * seconds)) / cost;
  const text = await (await fetch(`${server.url}/metrics`)).text();
  const parsed = Number(/requests_total\{kind="app",result="invalid"\} (\d+)/.exec(text)?.[1]);
  expect(parsed).toBeGreaterThan(0);
  expect(parsed).toBeLessThanOrEqual(paid);
});

test('a body that says that it is too large is refused unread, and its connection ends', async () => {
  const port = await serve();
  const begin = `Content-Length: ${QUESTION_LIMITS.bytes + 1}\r\n\r\n{`;
  // The rest never comes.
  const status = await new Promise<string>((resolve) => {
    const socket = connect(port, '127.0.0.1');
    let text = '';
    socket.on('data', (chunk: Buffer) => (text += chunk.toString()));
    socket.once('close', () => resolve(text));
    socket.write(`POST /bootAuth/app HTTP/1.1\r\nHost: a\r\n${begin}`);
  });
  expect(status).toMatch(/^HTTP\/1\.1 413 .*connection: close/is);
});

test('an address that has spent what it may cost is told to wait', async () => {
  await serve();
  const large = question.padEnd(QUESTION_LIMITS.bytes);
  for (let turn = 0; turn < 200; turn++) {
    const response = await fetch(`${server.url}/bootAuth/app`, { method: 'POST', body: large }).catch(
      // The connection may be closed before its answer is read.
      () => undefined,
    );
    if (response === undefined || response.status === 200) continue;
    const answer = await response.json();
    expect([response.status, response.headers.get('retry-after')]).toEqual([429, '6']);
    expect(answer).toMatchObject({ isAllowed: false, message: expect.stringContaining('try again later') });
    return;
  }
  expect.unreachable('200 large bodies cost nothing');
});
