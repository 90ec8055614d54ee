import { createServer as createHttp } from 'node:http';
import { createServer, type Server, type Socket } from 'node:net';
import { afterEach, expect, it } from 'vitest';
import { whySilent } from './silent-urls.ts';

const servers: Server[] = [];
afterEach(() => {
  for (const server of servers.splice(0)) server.close();
});
const listen = async (server: Server): Promise<string> => {
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return `http://127.0.0.1:${(server.address() as { port: number }).port}`;
};
const never = new AbortController().signal;

it('an answer of any kind is one, also of another protocol, and so is silence that stays', async () => {
  const web = createHttp((_, response) => response.writeHead(500).end());
  const redis = createServer((socket) => socket.on('data', () => socket.end('-ERR\r\n')));
  const quiet = createServer((socket) => socket.on('error', () => undefined));
  for (const server of [web as unknown as Server, redis, quiet])
    expect(await whySilent(await listen(server), 0, never)).toBeUndefined();
});

it('a port that is closed, and a proxy with nobody behind it', async () => {
  const closing = createServer((socket) => socket.destroy());
  expect(await whySilent(await listen(closing), 200, never)).toMatch(/ECONNRESET|closed without/);
  const ended = createServer((socket) => socket.resume().end());
  expect(await whySilent(await listen(ended), 0, never)).toBe('the connection is closed without an answer');
  const gone = await listen(createServer());
  servers.pop()?.close();
  expect(await whySilent(gone, 0, never)).toBe('ECONNREFUSED');
});

it('waits for a service that takes its time', async () => {
  let isUp = false;
  const slow = createServer((socket: Socket) => (isUp ? socket.end('x') : socket.destroy()));
  const url = await listen(slow);
  setTimeout(() => {
    isUp = true;
  }, 300);
  expect(await whySilent(url, 10_000, never)).toBeUndefined();
});
