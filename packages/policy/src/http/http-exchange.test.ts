/** What the webhook and RPC tests do not reach: TLS rules, also when a kept connection turns out to be dead. */
import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { createServer, type Server } from 'node:https';
import type { AddressInfo, Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { describeWithPrograms } from '@dstack-cloud/test/requires';
import { afterAll, afterEach, beforeAll, expect, test, vi } from 'vitest';
import { type Connections, exchange, type HttpAnswer, openConnections } from './http-exchange.ts';

const run = promisify(execFile);

type Identity = { key: string; cert: string };
let directory: string;
let ours: Identity;
let theirs: Identity;

async function makeIdentity(name: string): Promise<Identity> {
  const key = join(directory, `${name}.key`);
  const cert = join(directory, `${name}.crt`);
  const request = [
    'req',
    '-x509',
    '-newkey',
    'ec',
    '-pkeyopt',
    'ec_paramgen_curve:prime256v1',
    '-nodes',
    '-days',
    '2',
  ];
  const names = ['-subj', `/CN=${name}`, '-addext', 'subjectAltName=IP:127.0.0.1'];
  await run('openssl', [...request, ...names, '-keyout', key, '-out', cert], { timeout: 20_000 });
  return { key: await readFile(key, 'utf8'), cert: await readFile(cert, 'utf8') };
}

const open: { close(): unknown }[] = [];
afterEach(() => {
  for (const one of open.splice(0)) one.close();
});

async function serve(
  identity: Identity,
  port = 0,
): Promise<{ server: Server; url: URL; sockets: Set<Socket> }> {
  const sockets = new Set<Socket>();
  const server = createServer(identity, (_, response) => response.end('hello'));
  server.on('connection', (socket) => sockets.add(socket as Socket));
  await new Promise<void>((done) => server.listen(port, '127.0.0.1', () => done()));
  open.push({
    close() {
      server.close();
      server.closeAllConnections();
    },
  });
  return { server, url: new URL(`https://127.0.0.1:${(server.address() as AddressInfo).port}`), sockets };
}

const get = (url: URL, connections: Connections): Promise<HttpAnswer> =>
  exchange({ method: 'GET', url, headers: {}, timeoutMs: 5_000, maxBytes: 100, connections });

function connectionsTo(url: URL, ca?: string): Connections {
  const connections = openConnections(url, ca === undefined ? {} : { ca });
  open.push(connections);
  return connections;
}

describeWithPrograms('TLS', ['openssl'], () => {
  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), 'dstack-tls-'));
    [ours, theirs] = await Promise.all([makeIdentity('ours'), makeIdentity('theirs')]);
  });
  afterAll(() => rm(directory, { recursive: true, force: true }));

  test('the named authority is trusted, nobody else is', async () => {
    const { url } = await serve(ours);
    expect(await get(url, connectionsTo(url, ours.cert))).toMatchObject({ status: 200, body: 'hello' });
    for (const ca of [undefined, theirs.cert]) {
      await expect(get(url, connectionsTo(url, ca))).rejects.toMatchObject({ code: 'backend-unreachable' });
    }
  });

  test('nor when the environment tells Node not to check', async () => {
    vi.stubEnv('NODE_TLS_REJECT_UNAUTHORIZED', '0');
    const { url } = await serve(theirs);
    for (const ca of [undefined, ours.cert]) {
      await expect(get(url, connectionsTo(url, ca))).rejects.toMatchObject({ code: 'backend-unreachable' });
    }
    vi.unstubAllEnvs();
  });

  test('a kept connection that died is replaced under the same rules', async () => {
    const first = await serve(ours);
    const connections = connectionsTo(first.url, ours.cert);
    await get(first.url, connections);
    // The peer resets the idle connection at the moment of the next request.
    for (const socket of first.sockets) socket.resetAndDestroy();
    expect(await get(first.url, connections)).toMatchObject({ body: 'hello' });

    for (const socket of first.sockets) socket.resetAndDestroy();
    await new Promise<void>((done) => first.server.close(() => done()));
    await serve(theirs, Number(first.url.port));
    await expect(get(first.url, connections)).rejects.toMatchObject({ code: 'backend-unreachable' });
  });
});
