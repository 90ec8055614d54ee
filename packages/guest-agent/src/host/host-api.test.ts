import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import { afterEach, expect, it } from 'vitest';
import { hostNotifier } from './host-api.ts';

const log = pino({ level: 'silent' });
const servers: Server[] = [];
afterEach(() => {
  for (const server of servers.splice(0)) server.close();
});

async function host(address: string | number, status = 200): Promise<{ server: Server; got: string[] }> {
  const got: string[] = [];
  const server = createServer((request, response) => {
    let body = '';
    request.on('data', (chunk) => {
      body += chunk;
    });
    request.on('end', () => {
      got.push(`${request.method} ${request.url} ${body}`);
      response.writeHead(status).end('{}');
    });
  });
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(address, resolve));
  return { server, got };
}

it('notifies over a Unix socket', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'dstack-host-'));
  const { got } = await host(join(directory, 'h.sock'));
  await hostNotifier(`unix:${join(directory, 'h.sock')}`, log)('boot.progress', 'done');
  expect(got).toEqual(['POST /api/Notify?json {"event":"boot.progress","payload":"done"}']);
  rmSync(directory, { recursive: true, force: true });
});

it('notifies over HTTP below the path of the URL, and cuts long texts between characters', async () => {
  const { server, got } = await host(0);
  const { port } = server.address() as AddressInfo;
  await hostNotifier(`http://localhost:${port}/api/`, log)('boot.error', 'é'.repeat(5000));
  const { payload } = JSON.parse(got[0]?.split(' ')[2] ?? '') as { payload: string };
  expect(got[0]).toMatch(/^POST \/api\/Notify\?json /);
  expect(Buffer.byteLength(payload)).toBeLessThanOrEqual(4096);
  expect(payload).toMatch(/^é+$/);
});

it.each([undefined, 'vsock://x:12000/api', 'nonsense', 'http://127.0.0.1:9/api'])(
  'never fails: %s',
  async (url) => {
    await expect(hostNotifier(url, log)('boot.error', 'x')).resolves.toBeUndefined();
  },
);

it('a host that refuses does not matter', async () => {
  const { server } = await host(0, 500);
  const { port } = server.address() as AddressInfo;
  await expect(hostNotifier(`http://localhost:${port}/api`, log)('boot.error', 'x')).resolves.toBeUndefined();
});
