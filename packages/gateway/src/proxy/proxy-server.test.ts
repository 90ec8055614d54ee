import { once } from 'node:events';
import { createServer as createHttp2Server, connect as http2Connect } from 'node:http2';
import { createServer, type Server, type Socket, connect as tcpConnect } from 'node:net';
import { connect, createServer as createTlsServer, type TLSSocket } from 'node:tls';
import { afterEach, describe, expect, it } from 'vitest';
import { readProxyHeader, writeProxyHeader } from '../hello/proxy-header.ts';
import { APP, BASE, certificateFor, instance, type Lab, startLab } from '../test/lab.ts';

const open: { close(): unknown }[] = [];
const sockets = new Set<Socket>();

afterEach(async () => {
  for (const socket of sockets) socket.destroy();
  sockets.clear();
  for (const one of open.splice(0)) await one.close();
});

describe('a connection of a user', () => {
  it('gets TLS from the gateway and plain bytes to the application', async () => {
    const lab = await labWith(1);
    const port = await echo(1);
    const client = await tlsTo(lab, `${APP}-${port}.${BASE}`);
    expect(client.alpnProtocol).toBe(false);
    expect(await said(client, 'hello')).toBe('hello');
    const record = lab.next();
    client.end();
    expect(await record).toMatchObject({ outcome: 'relayed', mode: 'terminate', sent: 5, received: 5 });
  });

  it('reaches an instance by its own id, and any of them by that of the application', async () => {
    const lab = await labWith(1, 2);
    const port = await answering(1, 'one');
    await answering(2, 'two', port);
    expect(await allFrom(await tlsTo(lab, `${instance(2).instanceId}-${port}.${BASE}`))).toBe('two');
    expect(['one', 'two']).toContain(await allFrom(await tlsTo(lab, `${APP}-${port}.${BASE}`)));
  });

  it('reaches the TLS of the application untouched with s', async () => {
    const lab = await labWith(1);
    const own = certificateFor('inner.test');
    const inner = createTlsServer({ cert: own.certChain, key: own.key }, (socket) => socket.pipe(socket));
    const port = await listen(inner, 1);
    const client = await tlsTo(lab, `${APP}-${port}s.${BASE}`);
    expect(client.getPeerCertificate().subject.CN).toBe('inner.test');
    expect(await said(client, 'x'.repeat(200_000))).toHaveLength(200_000);
  });

  it('speaks HTTP/2 with g, and refuses a client that offers only another protocol', async () => {
    const lab = await labWith(1);
    const inner = createHttp2Server((_request, response) => response.end('h2'));
    const port = await listen(inner, 1);
    const name = `${APP}-${port}g.${BASE}`;
    const session = http2Connect(`https://${name}`, {
      createConnection: () =>
        connect({
          port: lab.port,
          host: '127.0.0.1',
          servername: name,
          rejectUnauthorized: false,
          ALPNProtocols: ['h2'],
        }),
    });
    const stream = session.request({ ':path': '/' });
    const chunks: Buffer[] = [];
    for await (const chunk of stream) chunks.push(chunk as Buffer);
    expect(Buffer.concat(chunks).toString()).toBe('h2');
    session.destroy();
    await expect(tlsTo(lab, name, { ALPNProtocols: ['http/1.1'] })).rejects.toThrow(/protocol/i);
    expect((await tlsTo(lab, name)).alpnProtocol).toBe(false);
  });

  it('keeps the other direction when one side has said all', async () => {
    const lab = await labWith(1);
    const server = createServer({ allowHalfOpen: true }, (socket) => {
      void allFrom(socket).then((text) => socket.end(`got ${text}`));
    });
    const port = await listen(server, 1);
    const client = await tlsTo(lab, `${APP}-${port}.${BASE}`);
    client.allowHalfOpen = true;
    client.end('all');
    expect(await allFrom(client)).toBe('got all');
  });

  it('custom-domain: follows the record of the domain, with the TLS of the application, and of no other name', async () => {
    const lab = await labWith(1);
    const own = certificateFor('www.customer.test');
    const port = await listen(
      createTlsServer({ cert: own.certChain, key: own.key }, (socket) => socket.end('mine')),
      1,
    );
    lab.zone.set('_dstack-app-address.www.customer.test', [`${APP}:${port}`]);
    const client = await tlsTo(lab, 'www.customer.test');
    expect(client.getPeerCertificate().subject.CN).toBe('www.customer.test');
    expect(await refused(lab, 'other.customer.test')).toBe('unknown-app');
    lab.zone.set('_dstack-app-address.two.customer.test', [`${'c'.repeat(40)}:1`, `${APP}:${port}`]);
    expect((await tlsTo(lab, 'two.customer.test')).getPeerCertificate().subject.CN).toBe('www.customer.test');
  });

  it('localhost-through-custom-domain: a record reaches neither the gateway nor its loopback ports', async () => {
    const lab = await labWith(1);
    for (const value of ['localhost:8011', 'gateway:80', '127.0.0.1:22']) {
      const name = `n${value.length}.customer.test`;
      lab.zone.set(`_dstack-app-address.${name}`, [value]);
      expect(await refused(lab, name), value).toBe('unknown-app');
    }
    expect(await refused(lab, `localhost-8011.${BASE}`)).toBe('unknown-app');
  });

  it('is refused before any cryptography where nobody is', async () => {
    const lab = await labWith(1);
    expect(await refused(lab, `${'b'.repeat(40)}.${BASE}`)).toBe('unknown-app');
    expect(await refused(lab, `${APP}-1x.${BASE}`)).toBe('bad-name');
    expect(await refused(lab, `a.${APP}.${BASE}`)).toBe('bad-name');
    expect(await refused(lab, `${APP}-9.${BASE}`)).toBe('no-answer');
  });

  it('serves the names of the gateway at the default port only', async () => {
    const lab = await labWith();
    expect(await allFrom(await tlsTo(lab, `gateway.${BASE}`))).toBe('own gateway');
    expect(await allFrom(await tlsTo(lab, `health.${BASE}`))).toBe('own health');
    expect(await refused(lab, `gateway-8011.${BASE}`)).toBe('bad-name');
    expect(await refused(lab, `gateway-80s.${BASE}`)).toBe('bad-name');
  });

  it('obeys the port policy of the application', async () => {
    const lab = await labWith();
    const port = await answering(1, 'open');
    const portPolicy = { ports: [{ port, proxyProtocol: false }], restrict: true };
    lab.table.put(instance(1, { portPolicy }));
    expect(await allFrom(await tlsTo(lab, `${APP}-${port}.${BASE}`))).toBe('open');
    expect(await refused(lab, `${APP}-${port + 1}.${BASE}`)).toBe('denied-port');
    expect(await refused(lab, `${APP}-${port + 1}s.${BASE}`)).toBe('denied-port');
  });

  it('is refused at every port while the policy of the instance is not known, which is asked for', async () => {
    const wanted: string[] = [];
    const lab = await startLab({ onUnknownPolicy: ({ instanceId }) => wanted.push(instanceId) });
    open.push(lab);
    const port = await answering(1, 'one');
    const { portPolicy, ...unknown } = instance(1);
    lab.table.put(unknown);
    expect(await refused(lab, `${APP}-${port}.${BASE}`)).toBe('denied-port');
    expect(await refused(lab, `${unknown.instanceId}-${port}s.${BASE}`)).toBe('denied-port');
    expect(wanted).toEqual([unknown.instanceId, unknown.instanceId]);
    lab.table.put({ ...unknown, portPolicy: portPolicy! });
    expect(await allFrom(await tlsTo(lab, `${APP}-${port}.${BASE}`))).toBe('one');
  });

  it('goes to the next instance when the first does not answer', async () => {
    const lab = await labWith(1, 2);
    const port = await answering(2, 'two');
    for (let i = 0; i < 5; i++) expect(await allFrom(await tlsTo(lab, `${APP}-${port}.${BASE}`))).toBe('two');
  });

  it('instance-dies: no connection fails while another instance lives', async () => {
    const lab = await labWith(1, 2);
    const port = await answering(1, 'one');
    const dying = open.at(-1)!;
    await answering(2, 'two', port);
    await dying.close();
    for (let i = 0; i < 20; i++)
      expect(await allFrom(await tlsTo(lab, `${APP}-${port}.${BASE}`))).toBe('two');
    await expect.poll(() => lab.records.length).toBe(20);
    expect(lab.records.every(({ outcome }) => outcome === 'relayed')).toBe(true);
  });

  it('is one too many when the application has as many as it may', async () => {
    const lab = await labWith({ maxConnectionsPerApp: 2 }, 1);
    const port = await echo(1);
    const first = await tlsTo(lab, `${APP}-${port}.${BASE}`);
    const second = await tlsTo(lab, `${APP}-${port}.${BASE}`);
    expect(await said(first, 'a')).toBe('a');
    expect(await said(second, 'b')).toBe('b');
    expect(await refused(lab, `${APP}-${port}.${BASE}`)).toBe('app-full');
    const ended = lab.next();
    first.destroy();
    await ended;
    expect(await said(await tlsTo(lab, `${APP}-${port}.${BASE}`), 'c')).toBe('c');
  });

  it('brings its address by PROXY header where the application declared that, and from a load balancer', async () => {
    const lab = await labWith({ inboundProxyHeader: true });
    const seen: Buffer[] = [];
    const port = await listen(
      createServer((socket) => void socket.on('data', (chunk) => seen.push(chunk))),
      1,
    );
    lab.table.put(instance(1, { portPolicy: { ports: [{ port, proxyProtocol: true }], restrict: false } }));
    const connection = {
      version: 1 as const,
      source: { address: '203.0.113.7', port: 7 },
      destination: { address: '203.0.113.9', port: 443 },
    };
    const raw = await rawTo(lab);
    raw.write(writeProxyHeader(connection));
    const client = connect({ socket: raw, servername: `${APP}-${port}.${BASE}`, rejectUnauthorized: false });
    await once(client, 'secureConnect');
    client.write('after');
    await expect.poll(() => Buffer.concat(seen).toString()).toContain('after');
    expect(readProxyHeader(Buffer.concat(seen))).toMatchObject({ connection });
    const record = lab.next();
    client.destroy();
    expect(await record).toMatchObject({ source: '203.0.113.7' });
    const lying = lab.next();
    (await rawTo(lab)).write(Buffer.from('16030100050100000100', 'hex'));
    expect(await lying).toMatchObject({ outcome: 'no-name' });
  });

  it('a fault of ours ends the connection that met it, and nothing else', async () => {
    const lab = await labWith({
      handshakes: () => {
        throw new Error('out of order');
      },
    });
    lab.table.put(instance(1));
    expect(await refused(lab, `${APP}-1.${BASE}`)).toBe('fault');
    expect(await allFrom(await tlsTo(lab, `gateway.${BASE}`))).toBe('own gateway');
  });

  it('is told that the port speaks TLS when it speaks HTTP', async () => {
    const lab = await labWith();
    const record = lab.next();
    const raw = await rawTo(lab);
    raw.write('GET / HTTP/1.1\r\nHost: x\r\n\r\n');
    expect(await allFrom(raw)).toMatch(/^HTTP\/1\.1 400/);
    expect(await record).toMatchObject({ outcome: 'not-tls' });
  });

  it('slow-client-hello: has so long for its name, byte by byte or not at all, and no longer', async () => {
    const lab = await labWith({
      timeouts: { handshake: 300, proxyHeader: 300, connect: 300, dns: 300, idle: 1_000, total: 60_000 },
    });
    const records = [lab.next(), lab.next(), lab.next()];
    const silent = await rawTo(lab);
    const slow = await rawTo(lab);
    const timer = setInterval(() => slow.writable && slow.write(Buffer.from([0x16])), 50);
    const half = await rawTo(lab);
    half.end(Buffer.from('1603010200', 'hex'));
    const outcomes = (await Promise.all(records)).map(({ outcome }) => outcome);
    clearInterval(timer);
    expect(outcomes).toEqual(expect.arrayContaining(['no-name', 'no-name']));
    for (const socket of [silent, slow, half]) await expect.poll(() => socket.destroyed).toBe(true);
  });

  it('ends when nothing flows, and after its longest time', async () => {
    const lab = await labWith(
      {
        timeouts: { handshake: 2_000, proxyHeader: 300, connect: 2_000, dns: 300, idle: 200, total: 60_000 },
      },
      1,
    );
    const port = await echo(1);
    const idle = lab.next();
    await tlsTo(lab, `${APP}-${port}.${BASE}`);
    expect(await idle).toMatchObject({ outcome: 'relayed', reason: 'idle' });
    const short = await labWith(
      {
        timeouts: { handshake: 2_000, proxyHeader: 300, connect: 2_000, dns: 300, idle: 60_000, total: 300 },
      },
      1,
    );
    const total = short.next();
    const client = await tlsTo(short, `${APP}-${port}.${BASE}`);
    const timer = setInterval(() => client.writable && client.write('x'), 20);
    expect(await total).toMatchObject({ outcome: 'relayed' });
    clearInterval(timer);
  });

  it('shows no certificate that has expired, and takes none that does not fit', async () => {
    const lab = await labWith(1);
    const port = await echo(1);
    const { certChain } = certificateFor(`*.${BASE}`);
    expect(() => lab.certificates.set(BASE, { certChain, key: certificateFor('x').key })).toThrow(
      /do not fit/,
    );
    expect(() => lab.certificates.set(BASE, certificateFor('*.other.test'))).toThrow(/does not cover/);
    expect(() => lab.certificates.set(BASE, certificateFor(`*.${BASE}`, 1_000_000_000))).toThrow(/in force/);
    const before = await tlsTo(lab, `${APP}-${port}.${BASE}`);
    lab.certificates.set(BASE, certificateFor(`*.${BASE}`));
    const after = await tlsTo(lab, `${APP}-${port}.${BASE}`);
    expect(await said(before, 'old')).toBe('old');
    expect(after.getPeerCertificate().fingerprint).not.toBe(before.getPeerCertificate().fingerprint);
  });
});

async function labWith(...parts: (Parameters<typeof startLab>[0] | number)[]): Promise<Lab> {
  const options = Object.assign({}, ...parts.filter((part) => typeof part === 'object'));
  const lab = await startLab(options);
  for (const part of parts) if (typeof part === 'number') lab.table.put(instance(part));
  open.push(lab);
  return lab;
}

async function listen(server: Server, number: number, port = 0): Promise<number> {
  server.on('connection', (socket: Socket) => {
    sockets.add(socket);
    socket.on('error', () => socket.destroy());
  });
  server.on('secureConnection', (socket: Socket) => socket.on('error', () => socket.destroy()));
  server.listen(port, instance(number).ip);
  await once(server, 'listening');
  open.push(server);
  return (server.address() as { port: number }).port;
}

const echo = (number: number): Promise<number> =>
  listen(
    createServer((socket) => socket.pipe(socket)),
    number,
  );

const answering = (number: number, text: string, port?: number): Promise<number> =>
  listen(
    createServer((socket) => socket.end(text)),
    number,
    port,
  );

async function rawTo(lab: Lab): Promise<Socket> {
  const socket = tcpConnect({ port: lab.port, host: '127.0.0.1' });
  sockets.add(socket);
  socket.on('error', () => socket.destroy());
  await once(socket, 'connect');
  return socket;
}

async function tlsTo(lab: Lab, servername: string, options: object = {}): Promise<TLSSocket> {
  const client = connect({
    port: lab.port,
    host: '127.0.0.1',
    servername,
    rejectUnauthorized: false,
    ...options,
  });
  sockets.add(client);
  await once(client, 'secureConnect');
  client.on('error', () => client.destroy());
  return client;
}

/** How a connection that must not be relayed ends. */
async function refused(lab: Lab, servername: string): Promise<string> {
  const before = lab.records.length;
  const client = connect({ port: lab.port, host: '127.0.0.1', servername, rejectUnauthorized: false });
  sockets.add(client);
  client.on('error', () => client.destroy());
  await new Promise((resolve) => client.once('close', resolve));
  const ended = () => lab.records.slice(before).find(({ name }) => name === servername);
  await expect.poll(ended).toBeDefined();
  return ended()!.outcome;
}

/** Until the end; not by iteration, which ends the other direction too. */
async function allFrom(socket: Socket): Promise<string> {
  const chunks: Buffer[] = [];
  socket.on('data', (chunk: Buffer) => chunks.push(chunk));
  await once(socket, 'end');
  return Buffer.concat(chunks).toString();
}

/** Sends text and returns as many bytes of the answer. */
async function said(socket: Socket, text: string): Promise<string> {
  let got = '';
  socket.write(text);
  while (got.length < text.length) {
    const [chunk] = (await once(socket, 'data')) as [Buffer];
    got += chunk.toString();
  }
  return got;
}
