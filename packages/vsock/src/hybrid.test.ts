import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { hybridGuest, hybridHost } from './hybrid.ts';
import { openVsock, parseVsockAddress } from './open-vsock.ts';
import type { VsockServer } from './vsock.ts';

let directory: string;
let path: string;
const open: { close(): unknown }[] = [];
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'hybrid-'));
  path = join(directory, 'vm.vsock');
});
afterEach(async () => {
  await Promise.all(open.splice(0).map((one) => one.close()));
  rmSync(directory, { recursive: true });
});

const kept = <T extends { close(): unknown }>(one: T): T => {
  open.push(one);
  return one;
};
const textOf = async (stream: Socket): Promise<string> => {
  let text = '';
  for await (const chunk of stream) text += String(chunk);
  return text;
};

describe('the two sides of hybrid sockets', () => {
  test('a guest reaches its host, and the host its guest, with every byte', async () => {
    const [host, guest] = [hybridHost(path), hybridGuest(path)];
    kept(await host.listen(3128, (stream) => stream.end('from the host')));
    kept(await guest.listen(8000, (stream) => stream.end('from the guest')));
    expect(await textOf(await guest.connect(3, 3128))).toBe('from the host');
    expect(await textOf(await host.connect(16, 8000))).toBe('from the guest');
  });

  test('a port to which nobody listens is an error', async () => {
    const [host, guest] = [hybridHost(path), hybridGuest(path)];
    await expect(guest.connect(3, 1)).rejects.toMatchObject({ code: 'not-listening' });
    await expect(host.connect(16, 1)).rejects.toMatchObject({ code: 'not-listening' });
    kept(await guest.listen(2, (stream) => stream.end()));
    await expect(host.connect(16, 1)).rejects.toMatchObject({ code: 'not-listening' });
  });

  test('the socket of a killed program is replaced, one that answers and a file are not', async () => {
    const host = hybridHost(path);
    const first = await host.listen(1, () => undefined);
    await expect(host.listen(1, () => undefined)).rejects.toMatchObject({ code: 'unavailable' });
    await first.close();
    writeFileSync(`${path}_2`, 'a file');
    await expect(host.listen(2, () => undefined)).rejects.toMatchObject({ code: 'unavailable' });
  });

  test.each([
    ['an answer without end', 'x'.repeat(100)],
    ['another answer', 'NO\n'],
    ['none', ''],
  ])('a carrier with %s is an error', async (_, answer) => {
    const server = createServer((stream) => void stream.on('error', () => undefined).end(answer));
    kept(server);
    await new Promise<void>((resolve) => server.listen(path, resolve));
    await expect(hybridHost(path).connect(16, 1)).rejects.toMatchObject({ code: 'not-listening' });
  });
});

test('TCP takes the place of vsock in tests', async () => {
  const tcp = openVsock('tcp:127.0.0.1');
  let port = 0;
  let server: VsockServer | undefined;
  while (server === undefined) {
    port = 20_000 + Math.floor(Math.random() * 40_000);
    server = await tcp.listen(port, (stream) => stream.end('x')).catch(() => undefined);
  }
  kept(server);
  expect(await textOf(await tcp.connect(3, port))).toBe('x');
});

test('addresses', () => {
  expect(parseVsockAddress('3:3128')).toEqual({ cid: 3, port: 3128 });
  for (const bad of [
    '3',
    ':1',
    '3:',
    '4294967295:1',
    '3:4294967295',
    '3:1:2',
    '-1:2',
    'a:b',
    '3:99999999999',
  ])
    expect(() => parseVsockAddress(bad), bad).toThrow(/not a vsock address/);
  for (const bad of ['tcp:10.0.0.1', 'tcp:localhost', 'host:', 'vsock', ''])
    expect(() => openVsock(bad), bad).toThrow(/not a vsock transport/);
});

test('a guest whose socket could not be made listens once what was in the way is gone', async () => {
  const guest = hybridGuest(path);
  mkdirSync(path);
  await expect(guest.listen(443, () => undefined)).rejects.toThrow(/Cannot listen/);
  rmSync(path, { recursive: true });
  kept(await guest.listen(443, (stream) => stream.end('here')));
  expect(await textOf(await hybridHost(path).connect(16, 443))).toBe('here');
});
