import { once } from 'node:events';
import { createServer, request } from 'node:http';
import { connect, createServer as createNetServer, type Socket } from 'node:net';
import { generateP256Key, p256KeyPem } from '@dstack-cloud/keys';
import { certificatePem, createRaTlsServer, rootCa } from '@dstack-cloud/ra-tls';
import { expect, test } from 'vitest';
import { bind, listen, serveGiven } from './listen.ts';

test('closing lets a call end, and cuts who says nothing', async () => {
  let answer: (() => void) | undefined;
  const server = createServer((_, response) => {
    answer = () => response.end('late');
  });
  const { port, close } = await listen(server, '127.0.0.1', 0);
  const silent = connect(port, '127.0.0.1');
  const cut = once(silent, 'close');
  const call = request({ port, host: '127.0.0.1' }).end();
  const answered = once(call, 'response');
  await expect.poll(() => answer).toBeDefined();
  const since = performance.now();
  const closed = close(300);
  setTimeout(() => answer?.(), 50);
  const [response] = await answered;
  expect(response.statusCode).toBe(200);
  response.resume();
  await closed;
  await cut;
  expect(performance.now() - since).toBeLessThan(2_000);
});

test('closing does not wait for a TLS handshake that never comes', async () => {
  const key = generateP256Key();
  const server = createRaTlsServer({
    key: p256KeyPem(key),
    certChain: certificatePem(rootCa({ key, now: Math.floor(Date.now() / 1000) })),
    handler: () => undefined,
    handshakeTimeoutMs: 60_000,
  });
  const { port, close } = await listen(server, '127.0.0.1', 0);
  const silent = connect(port, '127.0.0.1');
  const cut = once(silent, 'close');
  await once(silent, 'connect');
  const since = performance.now();
  await close(100);
  await cut;
  expect(performance.now() - since).toBeLessThan(2_000);
});

test('closing lets a call end, also when another connection fails meanwhile', async () => {
  let answer: (() => void) | undefined;
  const server = createServer((_, response) => {
    answer = () => response.end('late');
  });
  const { serve, close } = serveGiven(server);
  const given: Socket[] = [];
  const front = createNetServer((socket) => {
    given.push(socket);
    serve(socket);
  });
  const { port } = await bind(front, '127.0.0.1', 0);
  const other = connect(port, '127.0.0.1');
  await expect.poll(() => given.length).toBe(1);
  const call = request({ port, host: '127.0.0.1' }).end();
  const answered = once(call, 'response');
  await expect.poll(() => answer).toBeDefined();
  let isClosed = false;
  const closed = close(5_000).finally(() => {
    isClosed = true;
  });
  // By then it waits for both.
  await once(server, 'close');
  await new Promise(setImmediate);
  given[0]!.destroy(new Error('reset'));
  await once(other, 'close');
  expect(isClosed).toBe(false);
  answer!();
  const [response] = await answered;
  expect(response.statusCode).toBe(200);
  response.resume();
  await closed;
  front.close();
});
