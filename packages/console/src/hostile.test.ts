/** Strangers at a console that runs, whose chain does not answer. */
import { connect } from 'node:net';
import { configSchema } from '@dstack-cloud/watcher';
import { attackListener, REFUSALS } from '@dstack-cloud/watcher/strangers';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { type RunningConsole, startConsole } from './start-console.ts';

let served: RunningConsole;
/** Questions to the services, which a stranger must not be able to multiply. */
let asked: number;
beforeEach(async () => {
  asked = 0;
  served = await startConsole({
    chain: configSchema.parse({
      ...{ rpc_urls: ['http://127.0.0.1:1'], kms_contract: `0x${'aa'.repeat(20)}`, chain_id: 1 },
    }),
    health: async () => {
      asked += 1;
      return [];
    },
    port: 0,
  });
});
afterEach(() => served.stop());

test('strangers at the console get refusals, and its page is served meanwhile', async () => {
  const { statuses, honest, silent } = await attackListener(Number(new URL(served.url).port), '/');
  expect(statuses).toEqual(REFUSALS);
  expect(new Set(honest)).toEqual(new Set(['200']));
  // One network may have 16 connections that have said nothing.
  expect(silent).toBeLessThanOrEqual(16);
  expect(asked).toBe(0);
});

test.each([
  ...['name=', 'name=__proto__', 'name=constructor', 'name=nonsense', '', `name=${'x'.repeat(4_000)}`],
  ...['name=images&page=-1', 'name=images&page=1e9', 'name=images&page=9999999', 'name=images&page=%00'],
])('a list that does not exist (%.40s) is refused', async (query) => {
  expect((await fetch(`${served.url}/api/list?${query}`)).status).toBe(400);
});

test('many who look at once cost the services one question', async () => {
  const looks = Array.from({ length: 8 }, () => fetch(`${served.url}/api/overview`));
  for (const { status } of await Promise.all(looks)) expect(status).toBe(200);
  expect(asked).toBe(1);
});

test('a flood of requests from one address leaves room for others', async () => {
  const port = Number(new URL(served.url).port);
  const request = `GET /api/overview HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\n\r\n`;
  let answered = 0;
  const flood = Array.from({ length: 128 }, () => {
    const socket = connect({ port, host: '127.0.0.1', localAddress: '127.0.13.1' });
    socket.on('error', () => undefined);
    // Each answer is asked for the next.
    socket.on('data', () => {
      answered += 1;
      socket.write(request);
    });
    socket.write(request);
    return socket;
  });
  await expect.poll(() => answered, { timeout: 20_000 }).toBeGreaterThan(200);
  for (let look = 0; look < 5; look += 1) {
    const { status } = await fetch(served.url, { headers: { connection: 'close' } });
    expect(status).toBe(200);
  }
  const open = flood.filter(({ closed }) => !closed).length;
  for (const socket of flood) socket.destroy();
  // Of one network, half of all connections at most.
  expect(open).toBeLessThanOrEqual(64);
  expect(asked).toBeLessThanOrEqual(5);
}, 60_000);
