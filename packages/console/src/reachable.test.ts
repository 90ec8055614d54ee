import type { AddressInfo } from 'node:net';
import { createServer, type Server } from 'node:net';
import { afterEach, expect, test } from 'vitest';
import { reachable } from './reachable.ts';

let server: Server | undefined;
afterEach(() => server?.close());

/** A service that writes this, and then a byte now and then. */
async function serve(first: string): Promise<string> {
  server = createServer((socket) => {
    socket.on('error', () => undefined);
    socket.write(first);
    const timer = setInterval(() => socket.write('x'), 20);
    socket.once('close', () => clearInterval(timer));
  });
  await new Promise<void>((done) => server!.listen(0, '127.0.0.1', done));
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}/health`;
}

test.each([
  ['never ends its headers', 'HTTP/1.1 200 OK\r\nx: ', { ok: false, text: 'does not answer (timeout)' }],
  [
    'never ends its answer',
    'HTTP/1.1 200 OK\r\nContent-Length: 9999999\r\n\r\n',
    { ok: true, text: 'answers' },
  ],
  ['refuses', 'HTTP/1.1 503 No\r\n\r\n', { ok: false, text: 'answers 503' }],
  [
    'sends elsewhere',
    'HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\n\r\n',
    { ok: true, text: 'answers' },
  ],
])('a service that %s', async (_, first, expected) => {
  expect(await reachable(await serve(first), 300)).toEqual(expected);
});

test('a service that is no HTTP, is not there, or has no address', async () => {
  expect(await reachable(await serve('SSH-2.0-x\r\n'), 300)).toMatchObject({ ok: false });
  expect(await reachable('http://127.0.0.1:1', 300)).toEqual({
    ok: false,
    text: 'does not answer (ECONNREFUSED)',
  });
  expect(await reachable('nonsense', 300)).toEqual({ ok: false, text: 'has no usable address' });
});
