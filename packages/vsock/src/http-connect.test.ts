import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { createServer as createTcpServer } from 'node:net';
import { afterEach, describe, expect, test } from 'vitest';
import { connectTunnel } from './http-connect.ts';
import { proxyFor } from './proxy-variables.ts';
import { connectTcp } from './tcp.ts';

const open: { close(): unknown }[] = [];
afterEach(() => {
  for (const one of open.splice(0)) one.close();
});

/** A listener that answers the first bytes of each connection. */
async function answering(answer: string): Promise<number> {
  const server = createTcpServer((stream) => {
    stream.on('error', () => undefined);
    stream.once('data', () => stream.write(answer));
  });
  open.push(server);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return (server.address() as AddressInfo).port;
}

describe('a tunnel', () => {
  test('through a proxy of Node gives what the target says, from its first byte', async () => {
    const asked: (string | undefined)[] = [];
    const server = createServer();
    server.on('connect', (request, stream) => {
      asked.push(request.url);
      stream.end('HTTP/1.1 200 OK\r\nVia: x\r\n\r\nfirst bytes');
    });
    open.push(server);
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const stream = await connectTcp('127.0.0.1', (server.address() as AddressInfo).port);
    await connectTunnel(stream, '::1', 12_001);
    let text = '';
    for await (const chunk of stream) text += String(chunk);
    expect([text, asked]).toEqual(['first bytes', ['[::1]:12001']]);
  });

  test.each([
    ['refused', 'HTTP/1.1 403 Forbidden\r\n\r\n', 'proxy-refused'],
    ['no HTTP', 'SSH-2.0-x\r\n', 'proxy-broken'],
    ['headers without end', `HTTP/1.1 200 OK\r\n${'X: y\r\n'.repeat(3000)}`, 'proxy-broken'],
    ['a line without end', 'x'.repeat(20_000), 'proxy-broken'],
    ['half an answer', 'HTTP/1.1 200 OK\r\nX: y', 'proxy-broken'],
  ])('%s is an error', async (_, answer, code) => {
    const stream = await connectTcp('127.0.0.1', await answering(answer));
    await expect(connectTunnel(stream, 'kms.example', 443, 300)).rejects.toMatchObject({ code });
    expect(stream.destroyed).toBe(true);
  });
});

test('a proxy that sends header after header is given up as soon as one that sends nothing', async () => {
  const server = createTcpServer((stream) => {
    stream.on('error', () => clearInterval(timer));
    stream.write('HTTP/1.1 200 OK\r\n');
    const timer = setInterval(() => stream.write('X: y\r\n'), 50);
    stream.once('close', () => clearInterval(timer));
  });
  open.push(server);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const stream = await connectTcp('127.0.0.1', (server.address() as AddressInfo).port);
  await expect(connectTunnel(stream, 'kms.example', 443, 300)).rejects.toMatchObject({
    code: 'proxy-broken',
  });
}, 5000);

describe('proxy variables', () => {
  test('name the proxy of an https target', () => {
    const proxy = { host: '127.0.0.1', port: 3128 };
    expect(proxyFor('kms.example', { HTTPS_PROXY: 'http://127.0.0.1:3128' })).toEqual(proxy);
    expect(proxyFor('kms.example', { ALL_PROXY: 'http://127.0.0.1:3128/' })).toEqual(proxy);
    expect(proxyFor('k', { https_proxy: 'http://[::1]' })).toEqual({ host: '::1', port: 80 });
    expect(proxyFor('kms.example', { HTTP_PROXY: 'http://127.0.0.1:3128' })).toBeUndefined();
    expect(proxyFor('kms.example', {})).toBeUndefined();
  });

  test('exempt what NO_PROXY names, and no name that only ends like it', () => {
    const env = { HTTPS_PROXY: 'http://p:1', NO_PROXY: 'localhost, .example' };
    expect(proxyFor('localhost', env)).toBeUndefined();
    expect(proxyFor('kms.Example', env)).toBeUndefined();
    expect(proxyFor('myexample', env)).toEqual({ host: 'p', port: 1 });
  });

  test.each(['socks5://p:1', 'https://p:1', 'p:1', 'http://user:secret@p:1'])('%s is refused', (value) => {
    expect(() => proxyFor('k', { HTTPS_PROXY: value })).toThrow(/HTTPS_PROXY does not name a proxy/);
    expect(() => proxyFor('k', { HTTPS_PROXY: value })).not.toThrow(/secret/);
  });
});
