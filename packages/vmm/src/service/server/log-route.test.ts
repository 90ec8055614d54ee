import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, get, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { PlainResponse } from '@dstack-cloud/prpc';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { VmmError } from '../../errors.ts';
import { INITIAL_STATE } from '../../state/state.ts';
import type { Machine } from '../machines/machine.ts';
import { logRoute } from './log-route.ts';

const STREAMS = 2;

let dir: string;
let server: Server;
let clients: IncomingMessage[];
beforeEach(async () => {
  dir = mkdtempSync(join(tmpdir(), 'vmm-log-route-'));
  mkdirSync(join(dir, 'logs'));
  writeFileSync(join(dir, 'logs/serial.log'), 'hello\n', { mode: 0o600 });
  clients = [];
  const status = { dir, name: 'one', manifest: undefined, state: INITIAL_STATE };
  const find = async (id: string) => {
    if (id !== 'one') throw new VmmError('not_found', 'There is no VM');
    return { id, status } as unknown as Machine;
  };
  const route = logRoute({ find }, STREAMS);
  const serve = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const query = new URL(request.url ?? '', 'http://x').search.slice(1);
    const answer = (await route.handle(request, response, { query } as never)) as PlainResponse | 'handled';
    if (answer !== 'handled') response.writeHead(answer.status ?? 200).end(answer.body);
  };
  server = createServer((request, response) => void serve(request, response));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
});
afterEach(async () => {
  for (const client of clients) client.destroy();
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
  rmSync(dir, { recursive: true, force: true });
});

async function open(query = 'id=one&follow=true&ansi=false'): Promise<IncomingMessage> {
  const { port } = server.address() as AddressInfo;
  const response = await new Promise<IncomingMessage>((resolve, reject) =>
    get({ host: '127.0.0.1', port, path: `/logs?${query}`, agent: false }, resolve).once('error', reject),
  );
  response.on('error', () => undefined);
  clients.push(response);
  return response;
}

it('gives the place of a reader that disconnects to the next one', async () => {
  for (let turn = 0; turn < 3; turn += 1) {
    const readers = [await open(), await open()];
    expect(readers.map(({ statusCode }) => statusCode)).toEqual([200, 200]);
    const refused = await open();
    expect(refused.statusCode).toBe(503);
    refused.resume();
    for (const reader of readers) reader.destroy();
    const next = async (): Promise<number | undefined> => {
      const one = await open();
      one.destroy();
      return one.statusCode;
    };
    await expect.poll(next, { timeout: 10_000 }).toBe(200);
  }
}, 60_000);

it('lets go of a reader that does not read', async () => {
  const reader = await open();
  reader.pause();
  const text = `${'x'.repeat(1023)}\n`.repeat(4096);
  const connections = (): Promise<number> =>
    new Promise((resolve) => server.getConnections((_, count) => resolve(count)));
  expect(await connections()).toBe(1);
  const append = async (): Promise<number> => {
    writeFileSync(join(dir, 'logs/serial.log'), text, { flag: 'a' });
    return await connections();
  };
  await expect.poll(append, { timeout: 30_000, interval: 300 }).toBe(0);
}, 60_000);

it.each([
  ['id=two&follow=true&ansi=false', 404],
  ['id=one&follow=true&ansi=false&lines=-1', 400],
  ['id=one&follow=true&ansi=false&lines=1e9', 400],
  ['id=one&follow=true&ansi=false&ch=../../etc/passwd', 400],
  ['follow=true&ansi=false', 400],
])('answers %s with %i, and keeps no place for it', async (query, status) => {
  for (let count = 0; count <= STREAMS; count += 1) {
    const response = await open(query);
    expect(response.statusCode).toBe(status);
    response.resume();
  }
  expect((await open()).statusCode).toBe(200);
});
