/** Endpoints that want to choose for how long they are waited for. */
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { createPublicClient } from 'viem';
import { afterEach, expect, test } from 'vitest';
import { rpcTransport } from './rpc-transport.ts';

let server: Server;
let asked: number;
afterEach(() => {
  server.closeAllConnections();
  server.close();
});

async function start(answer: Parameters<typeof createServer>[1]): Promise<string> {
  asked = 0;
  server = createServer((request, response) => {
    asked += 1;
    (answer as (...given: unknown[]) => void)(request, response);
  }).listen(0, '127.0.0.1');
  await new Promise((done) => server.once('listening', done));
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

const ask = (url: string): Promise<number> =>
  createPublicClient({ transport: rpcTransport(url, { timeoutMs: 2_000 }) }).getChainId();

test('Retry-After is not obeyed', async () => {
  const url = await start((_, response) => response.writeHead(429, { 'retry-after': '3600' }).end('{}'));
  await expect(ask(url)).rejects.toThrow();
  expect(asked).toBe(2);
});

test('a body that stalls, or never ends, is given up', async () => {
  const stalling = await start((_, response) => {
    response.writeHead(200, { 'content-type': 'application/json' }).write('{');
  });
  await expect(ask(stalling)).rejects.toThrow();
  server.closeAllConnections();
  server.close();
  const endless = await start((_, response) => {
    const write = (): void => {
      while (response.writable && response.write(' '.repeat(65_536)));
    };
    response.on('drain', write);
    write();
  });
  await expect(ask(endless)).rejects.toThrow();
});
