import { once } from 'node:events';
import http from 'node:http';
import https from 'node:https';
import net, { type AddressInfo, type Socket } from 'node:net';
import { afterEach, describe, expect, test } from 'vitest';
import { KMS } from '../../gen/kms_pb.ts';
import { configureServer } from '../configure-server.ts';
import { createPrpcHandler } from '../handler.ts';
import { implement } from '../service.ts';
import { type ConnectionLimits, MAX_REFUSALS } from './connection-limits.ts';

const opened: (() => void)[] = [];
afterEach(() => {
  for (const close of opened.splice(0)) close();
});

async function start(limits: Partial<ConnectionLimits> = {}) {
  const events: string[] = [];
  let calls = 0;
  const service = implement(KMS)<undefined>({
    GetMeta: async () => {
      calls += 1;
      await new Promise((resolve) => setTimeout(resolve, 5));
      return { caCert: 'x'.repeat(4_000_000) };
    },
    GetTempCaCert: () => {
      calls += 1;
      return {};
    },
    GetAppEnvEncryptPubKey: () => ({}),
  });
  const server = configureServer(
    http.createServer(createPrpcHandler({ mounts: [{ path: '/prpc', services: [service] }] })),
    {
      ...limits,
      onTurnedAway: (why) => events.push(why),
      onCut: (why) => events.push(why),
    },
  );
  await once(server.listen(0, '127.0.0.1'), 'listening');
  const { port } = server.address() as AddressInfo;
  opened.push(() => {
    server.closeAllConnections();
    server.close();
  });
  const open = async (localAddress = '127.0.0.1'): Promise<Socket & { text(): string }> => {
    const socket = net.connect({ host: '127.0.0.1', port, localAddress });
    opened.push(() => socket.destroy());
    let text = '';
    socket.on('data', (chunk: Buffer) => {
      text += chunk.toString('latin1');
    });
    socket.on('error', () => undefined);
    await once(socket, 'connect');
    return Object.assign(socket, { text: () => text });
  };
  return { server, events, open, calls: () => calls };
}

const ended = (socket: Socket): Promise<void> =>
  new Promise((resolve) => {
    if (socket.closed) resolve();
    else socket.once('close', () => resolve());
  });
const GET = (name: string) => `GET /prpc/${name} HTTP/1.1\r\nHost: x\r\n\r\n`;
const answers = (text: string, status: number) => text.split(`HTTP/1.1 ${status} `).length - 1;

describe('refused requests', () => {
  test('end their connection after a few, with an answer that says so', async () => {
    const { open } = await start();
    const socket = await open();
    for (let sent = 1; sent <= MAX_REFUSALS; sent++) {
      socket.write(GET('Nope'));
      await expect.poll(() => answers(socket.text(), 400)).toBe(sent);
    }
    await ended(socket);
    expect(socket.text().match(/Connection: [a-z-]+/g)).toEqual([
      ...Array.from({ length: MAX_REFUSALS - 1 }, () => 'Connection: keep-alive'),
      'Connection: close',
    ]);
  });

  test('cost their network, which is turned away when it has spent all; others are not', async () => {
    const { open, events } = await start({ costPerMinute: 1, costBurst: 4 });
    const [refused, waiting] = [await open(), await open()];
    refused.write(GET('Nope').repeat(3));
    await ended(refused);
    expect(answers(refused.text(), 400)).toBe(2);
    await ended(waiting);
    const late = await open();
    await ended(late);
    expect(events).toEqual(['rate', 'rate']);
    const other = await open('127.0.0.2');
    other.write(GET('GetTempCaCert'));
    await expect.poll(() => answers(other.text(), 200)).toBe(1);
  });

  test('cost by the size of their body', async () => {
    const { open } = await start({ costPerMinute: 1, costBurst: 10 });
    const socket = await open();
    socket.write(`POST /prpc/Nope?json HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n`);
    await ended(socket);
    const late = await open();
    await ended(late);
  });
});

describe('pipelining', () => {
  test('a few requests at once are answered, in their order', async () => {
    const { open } = await start();
    const socket = await open();
    socket.write(GET('GetTempCaCert').repeat(4) + GET('Nope'));
    await expect.poll(() => answers(socket.text(), 400)).toBe(1);
    expect(answers(socket.text(), 200)).toBe(4);
  });

  test('thousands end the connection, and keep their network out; hardly one of them is looked at', async () => {
    const { open, events, calls } = await start();
    const [socket, other] = [await open(), await open()];
    socket.write(GET('GetMeta').repeat(2_000));
    await ended(socket);
    await ended(other);
    expect(calls()).toBeLessThanOrEqual(8);
    const late = await open();
    await ended(late);
    expect(events).toEqual(['pipelined', 'rate', 'rate']);
  });
});

describe('nobody is kept for ever', () => {
  test('a client that does not read its answer', async () => {
    const { open, events } = await start({ unreadMs: 200 });
    const socket = await open();
    socket.pause();
    socket.removeAllListeners('data');
    socket.write(GET('GetMeta').repeat(4));
    await expect.poll(() => events, { timeout: 10_000 }).toEqual(['unread']);
  }, 15_000);

  test('a request that stands still in the middle of its body', async () => {
    const { open, events } = await start({ stallMs: 200 });
    const socket = await open();
    socket.write(
      'POST /prpc/GetAppEnvEncryptPubKey?json HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{',
    );
    await ended(socket);
    expect(events).toEqual(['stalled']);
  });

  test('but a body that comes slowly is waited for', async () => {
    const { open, events } = await start({ stallMs: 2_000 });
    const socket = await open();
    const body = '{"app_id":"11"}';
    const head = `POST /prpc/GetAppEnvEncryptPubKey?json HTTP/1.1\r\nHost: x\r\nContent-Length: ${body.length}\r\n\r\n`;
    socket.write(head);
    for (const character of body) {
      socket.write(character);
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
    await expect.poll(() => answers(socket.text(), 200)).toBe(1);
    expect(events).toEqual([]);
  }, 15_000);

  test.each([
    ['half a request line', 'GET /prpc'],
    ['half the headers', 'GET /prpc/Nope HTTP/1.1\r\nHost: x\r\nA: '],
    ['half the headers of a second request', `${GET('GetTempCaCert')}GET /`],
    ['nothing at all', ''],
  ])(
    '%s',
    async (_, sent) => {
      const { server, open } = await start();
      server.headersTimeout = 300;
      server.keepAliveTimeout = 300;
      const socket = await open();
      socket.write(sent);
      await ended(socket);
    },
    15_000,
  );
});

test('a request without Host is answered', async () => {
  const { open } = await start();
  const socket = await open();
  socket.write('GET /prpc/GetTempCaCert HTTP/1.1\r\n\r\n');
  await expect.poll(() => answers(socket.text(), 200)).toBe(1);
});

test.each([
  ['handshakes', () => https.createServer()],
  ['requests', () => http.createServer()],
])('a newcomer after a crowd waits until its connections are taken, not for its %s', async (_, create) => {
  const CROWD = 60;
  const server = create();
  const order: (string | undefined)[] = [];
  const begun = new Promise<void>((resolve) => {
    server.prependListener('connection', ({ remoteAddress }: Socket) => {
      order.push(remoteAddress);
      // As a handshake does, or what comes with a connection.
      const end = performance.now() + 2;
      while (performance.now() < end);
      if (order.length > CROWD) resolve();
    });
  });
  configureServer(server);
  await once(server.listen(0, '127.0.0.1'), 'listening');
  opened.push(() => server.close());
  const { port } = server.address() as AddressInfo;
  // All are in the queue of the kernel before the server takes the first.
  for (const localAddress of [...Array.from({ length: CROWD }, () => '127.0.0.2'), '127.0.0.3']) {
    const socket = net.connect({ host: '127.0.0.1', port, localAddress });
    socket.on('error', () => undefined);
    opened.push(() => socket.destroy());
  }
  await begun;
  expect(order.indexOf('127.0.0.3')).toBeLessThan(CROWD / 2);
});
