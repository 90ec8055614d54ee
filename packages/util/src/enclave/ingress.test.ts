import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openVsock } from '@dstack-cloud/vsock';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { thisEnclave } from './enclave-host.ts';
import { openIngress, parseIngress } from './ingress.ts';

let path: string;
const open: { close(): unknown }[] = [];
beforeEach(() => {
  path = join(mkdtempSync(join(tmpdir(), 'ingress-')), 'vm.vsock');
});
afterEach(async () => {
  for (const one of open.splice(0)) await one.close();
  rmSync(join(path, '..'), { recursive: true });
});

it('carries a connection of the host to a program that listens on TCP, in both directions', async () => {
  const program = createServer((stream) => stream.pipe(stream));
  await new Promise<void>((resolve) => program.listen(0, '127.0.0.1', resolve));
  open.push({ close: () => program.close() });
  const { port: to } = program.address() as AddressInfo;
  open.push(
    ...(await openIngress([{ port: 443, to }], openVsock(`guest:${path}`), thisEnclave, () => undefined)),
  );
  const stream = await openVsock(`host:${path}`).connect(16, 443);
  stream.write('hello');
  expect(String((await once(stream, 'data'))[0])).toBe('hello');
  stream.destroy();
});

it('closes a connection to a program that does not listen', async () => {
  const nobody = createServer();
  await new Promise<void>((resolve) => nobody.listen(0, '127.0.0.1', resolve));
  const { port: to } = nobody.address() as AddressInfo;
  await new Promise<void>((resolve) => nobody.close(() => resolve()));
  open.push(
    ...(await openIngress([{ port: 80, to }], openVsock(`guest:${path}`), thisEnclave, () => undefined)),
  );
  const stream = await openVsock(`host:${path}`).connect(16, 80);
  stream.resume();
  await once(stream, 'close');
});

it('an end of the enclave does not wait for what is open', async () => {
  const program = createServer(() => undefined);
  await new Promise<void>((resolve) => program.listen(0, '127.0.0.1', resolve));
  open.push({ close: () => program.close() });
  const { port: to } = program.address() as AddressInfo;
  const [door] = await openIngress(
    [{ port: 80, to }],
    openVsock(`guest:${path}`),
    thisEnclave,
    () => undefined,
  );
  const accepted = once(program, 'connection');
  const stream = await openVsock(`host:${path}`).connect(16, 80);
  await accepted;
  stream.resume();
  const closed = once(stream, 'close');
  await door?.close();
  await closed;
});

it('reads ports, and refuses what is none', () => {
  expect(parseIngress('443:8443, 8080')).toEqual([
    { port: 443, to: 8443 },
    { port: 8080, to: 8080 },
  ]);
  expect(parseIngress(undefined)).toEqual([]);
  for (const text of ['', '0', '80:65536', '80:', 'http', '80:80:80'])
    expect(() => parseIngress(text), text).toThrow('is not VSOCK_PORT[:TCP_PORT]');
  expect(() => parseIngress('80,80:81')).toThrow('names vsock port 80 twice');
});
