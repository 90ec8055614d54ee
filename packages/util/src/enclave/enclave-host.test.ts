import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { expect, test } from 'vitest';
import { thisEnclave } from './enclave-host.ts';

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

test('the relay closes with the connections that a program left open', async () => {
  const port = await freePort();
  const streams: Socket[] = [];
  const relay = await thisEnclave.listenTcp('127.0.0.1', port, (stream) => streams.push(stream));
  const left = connect(port, '127.0.0.1');
  await once(left, 'connect');
  while (streams.length === 0) await new Promise((resolve) => setTimeout(resolve, 5));
  await relay.close();
  await once(left.resume(), 'close');
}, 5000);

test('a connection that the relay has no place for is told of', async () => {
  const port = await freePort();
  let full = 0;
  const relay = await thisEnclave.listenTcp(
    '127.0.0.1',
    port,
    () => undefined,
    (limit) => {
      full = limit;
    },
  );
  const clients: Socket[] = [];
  for (let i = 0; full === 0 && i < 400; i++) {
    const client = connect(port, '127.0.0.1');
    client.on('error', () => undefined);
    clients.push(client);
    await once(client, 'connect');
  }
  while (full === 0) await new Promise((resolve) => setTimeout(resolve, 5));
  expect(clients.length).toBeGreaterThan(full);
  await relay.close();
}, 20_000);

test('a client of the relay that has said all still gets its answer', async () => {
  const port = await freePort();
  const relay = await thisEnclave.listenTcp('127.0.0.1', port, (stream) => {
    stream.resume().once('end', () => setTimeout(() => stream.end('answer'), 20));
  });
  const client = connect({ port, host: '127.0.0.1', allowHalfOpen: true });
  client.end('question');
  let text = '';
  for await (const chunk of client) text += String(chunk);
  expect(text).toBe('answer');
  await relay.close();
});

test.each([
  [['/bin/sh', '-c', 'exit 7'], { code: 7, signal: null }],
  [['/bin/sh', '-c', 'kill -TERM $$'], { code: null, signal: 'SIGTERM' }],
])('%s ends as it ended', async (command, ended) => {
  expect(await (await thisEnclave.start(command, {})).ended).toEqual(ended);
});

test('a program that is not there is named', async () => {
  await expect(thisEnclave.start(['/no/such/program'], {})).rejects.toThrow(
    '/no/such/program cannot be started',
  );
});
