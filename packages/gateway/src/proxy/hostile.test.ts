import { once } from 'node:events';
import { createServer, type Socket, connect as tcpConnect } from 'node:net';
import { Duplex } from 'node:stream';
import { connect, type TLSSocket } from 'node:tls';
import { CONNECTION_LIMITS } from '@dstack-cloud/prpc';
import { afterEach, describe, expect, it } from 'vitest';
import type { TxtLookup } from '../names/app-address-resolver.ts';
import { APP, BASE, instance, type Lab, startLab } from '../test/lab.ts';

/** The stranger comes from one address, everybody else from another. */
const STRANGER = '127.0.0.66';
const USER = '127.0.0.1';

const sockets = new Set<Socket>();
const labs: Lab[] = [];

afterEach(async () => {
  for (const socket of sockets) socket.destroy();
  sockets.clear();
  for (const lab of labs.splice(0)) await lab.close();
});

describe('the listener for users, while a stranger', () => {
  it('connection-flood: opens thousands of connections and says nothing', async () => {
    const lab = await labWith({ maxSilentPerNetwork: 32 });
    for (let i = 0; i < 1_000; i++) raw(lab, STRANGER);
    expect(await pageOf(lab)).toBe('page');
    const kept = () =>
      [...sockets].filter((socket) => !socket.destroyed && socket.localAddress === STRANGER).length;
    await expect.poll(kept, { timeout: 10_000 }).toBeLessThanOrEqual(32);
  });

  it('sends half a ClientHello again and again until it may not come any more', async () => {
    const lab = await labWith({ costBurst: 100, costPerMinute: 60 });
    for (let i = 0; i < 300; i++) raw(lab, STRANGER).end(Buffer.from('1603010200', 'hex'));
    expect(await pageOf(lab)).toBe('page');
    await expect
      .poll(() => lab.records.filter(({ outcome }) => outcome === 'no-name').length)
      .toBeGreaterThan(0);
    expect(lab.records.filter(({ outcome }) => outcome === 'no-name').length).toBeLessThanOrEqual(101);
  });

  it('asks for custom domains whose name servers do not answer: others of other networks are looked up all the same', async () => {
    let asked = 0;
    const lab = await labWith({}, async (name) => {
      if (name.includes('.tarpit.')) {
        asked += 1;
        await new Promise(() => undefined);
      }
      return { records: [[`${APP}:1`]] };
    });
    for (let i = 0; i < 400; i++) hello(lab, STRANGER, `n${i}.tarpit.test`);
    expect(await pageOf(lab)).toBe('page');
    await expect.poll(() => asked).toBeGreaterThan(0);
    const record = lab.next();
    hello(lab, USER, 'www.customer.test');
    await expect
      .poll(() => lab.records.find(({ name }) => name === 'www.customer.test')?.outcome)
      .toBe('no-answer');
    await record;
    // Two forms of each name are asked for.
    expect(asked).toBeLessThanOrEqual(2 * 32);
  });

  it('begins handshakes and goes away in the middle', async () => {
    const lab = await labWith({});
    for (let i = 0; i < 200; i++) {
      const client = hello(lab, STRANGER, `${APP}-${lab.page}.${BASE}`);
      setTimeout(() => client.destroy(), i % 20);
    }
    expect(await pageOf(lab)).toBe('page');
    const left = () => new Promise((resolve) => lab.server.getConnections((_error, count) => resolve(count)));
    await expect.poll(left, { timeout: 10_000 }).toBe(0);
  });

  it('ends its side in the middle of a handshake: nobody waits for it', async () => {
    const lab = await labWith({});
    const socket = raw(lab, STRANGER);
    // The first flight is the ClientHello; the second one never comes.
    const relay = new Duplex({
      read: () => undefined,
      write: (chunk, _encoding, done) => {
        if (!socket.writableEnded) socket.end(chunk);
        done();
      },
    });
    const client = connect({
      socket: relay,
      servername: `${APP}-${lab.page}.${BASE}`,
      rejectUnauthorized: false,
    });
    client.on('error', () => undefined);
    const handshake = () => lab.records.find(({ outcome }) => outcome === 'handshake');
    await expect.poll(() => handshake()?.reason, { timeout: 5_000 }).toBe('the client went away');
    client.destroy();
  });

  it('reads nothing of what it asked for: the application is held back, and memory stays', async () => {
    const lab = await labWith({});
    const endless = createServer((socket) => {
      sockets.add(socket);
      socket.on('error', () => socket.destroy());
      const more = (): void => {
        while (!socket.destroyed && socket.write(Buffer.alloc(65_536)));
      };
      socket.on('drain', more);
      more();
    });
    endless.listen(0, instance(1).ip);
    await once(endless, 'listening');
    const { port } = endless.address() as { port: number };
    const before = process.memoryUsage().arrayBuffers;
    const readers = await Promise.all(
      Array.from({ length: 20 }, async () => {
        const client = hello(lab, STRANGER, `${APP}-${port}.${BASE}`);
        await once(client, 'secureConnect');
        client.pause();
        return client;
      }),
    );
    expect(await pageOf(lab)).toBe('page');
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(128 * 2 ** 20);
    for (const reader of readers) reader.destroy();
    endless.close();
  });
});

async function labWith(
  limits: Partial<typeof CONNECTION_LIMITS>,
  lookup?: TxtLookup,
): Promise<Lab & { page: number }> {
  const connections = { ...CONNECTION_LIMITS, costBurst: 5_000, costPerMinute: 60_000, ...limits };
  const lab = await startLab({ connections }, lookup);
  labs.push(lab);
  lab.table.put(instance(1));
  const server = createServer((socket) => socket.end('page'));
  server.listen(0, instance(1).ip);
  await once(server, 'listening');
  lab.server.once('close', () => server.close());
  return Object.assign(lab, { page: (server.address() as { port: number }).port });
}

function raw(lab: Lab, localAddress: string): Socket {
  const socket = tcpConnect({ port: lab.port, host: '127.0.0.1', localAddress });
  sockets.add(socket);
  socket.on('error', () => socket.destroy());
  return socket;
}

function hello(lab: Lab, localAddress: string, servername: string): TLSSocket {
  const client = connect({ socket: raw(lab, localAddress), servername, rejectUnauthorized: false });
  sockets.add(client);
  client.on('error', () => client.destroy());
  return client;
}

/** What an honest user gets, who must not be turned away. */
async function pageOf(lab: Lab & { page: number }): Promise<string> {
  const client = hello(lab, USER, `${APP}-${lab.page}.${BASE}`);
  let text = '';
  client.on('data', (chunk: Buffer) => {
    text += chunk;
  });
  await once(client, 'end');
  return text;
}
