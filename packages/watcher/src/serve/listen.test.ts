/** Who gets an answer from a listener of this machine, and what strangers can do to it. */
import { connect } from 'node:net';
import { afterEach, expect, test } from 'vitest';
import { type Listener, listen } from './listen.ts';

let listener: Listener;
afterEach(() => listener?.stop());
const open = async (): Promise<void> => {
  listener = await listen({
    address: '127.0.0.1',
    port: 0,
    routes: [{ path: '/metrics', handle: () => ({ body: 'here' }) }],
  });
};

/** The whole answer to bytes. */
function send(bytes: string, from = '127.0.0.1'): Promise<string> {
  return new Promise((resolve) => {
    let text = '';
    const socket = connect({ port: listener.port, host: '127.0.0.1', localAddress: from });
    socket.on('data', (chunk: Buffer) => (text += chunk.toString()));
    socket.on('error', () => undefined);
    socket.once('close', () => resolve(text));
    socket.write(bytes);
  });
}
const get = (host: string, more = ''): Promise<string> =>
  send(`GET /metrics HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n${more}\r\n`);

test('a name that leads here, a page of another site, and a request without a name get nothing', async () => {
  await open();
  const { port } = listener;
  for (const host of [`127.0.0.1:${port}`, `localhost:${port}`, 'localhost', '[::1]:9', 'LOCALHOST'])
    expect(await get(host)).toMatch(/^HTTP\/1\.1 200 [\s\S]*here$/);
  for (const host of [
    ...['evil.example', `evil.example:${port}`, 'localhost.evil.example', '127.0.0.1.evil.example'],
    ...['10.0.0.1', '127.0.0.1@evil.example', '0.0.0.0', ''],
  ])
    expect(await get(host)).toMatch(/^HTTP\/1\.1 421 /);
  expect(await send('GET /metrics HTTP/1.0\r\n\r\n')).toMatch(/^HTTP\/1\.1 421 /);
  for (const header of ['Sec-Fetch-Site: cross-site', 'Origin: https://evil.example'])
    expect(await get(`127.0.0.1:${port}`, `${header}\r\n`)).toMatch(/^HTTP\/1\.1 403 /);
  expect(await get(`127.0.0.1:${port}`)).toContain('here');
});

test('a crowd that says nothing, or nonsense, leaves room for others', async () => {
  await open();
  const silent = Array.from({ length: 64 }, () =>
    connect({ port: listener.port, host: '127.0.0.1', localAddress: '127.0.9.1' }),
  );
  for (const socket of silent) socket.on('error', () => undefined);
  await Promise.all(Array.from({ length: 8 }, () => send('\x16\x03\x01nonsense\r\n\r\n', '127.0.9.2')));
  expect(await get(`127.0.0.1:${listener.port}`)).toContain('here');
  expect(
    await send(`GET / HTTP/1.1\r\nHost: localhost\r\nX: ${'x'.repeat(70_000)}\r\n\r\n`, '127.0.9.3'),
  ).toMatch(/^HTTP\/1\.1 431|^$/);
  for (const socket of silent) socket.destroy();
});
