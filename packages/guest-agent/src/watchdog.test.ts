import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { beforeEach, describe, expect, it, vi } from 'vitest';
import { createLogger } from './log.ts';
import { watchOver } from './watchdog.ts';

const told: string[] = [];
vi.mock('@dstack-cloud/attestation/obtain', () => ({
  notifyServiceManager: async (state: string) => told.push(state),
}));
const log = createLogger('test');
beforeEach(() => {
  told.length = 0;
});

async function served(status: number): Promise<{ url: string; server: Server; asked: () => number }> {
  let asked = 0;
  const server = createServer((_, response) => {
    asked += 1;
    response.statusCode = status;
    response.end('x');
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/`, server, asked: () => asked };
}

describe('the watchdog', () => {
  it('is fed while the agent answers', async () => {
    const { url, server } = await served(200);
    const stop = await watchOver(url, log, { NOTIFY_SOCKET: '/x', WATCHDOG_USEC: '100000' });
    await vi.waitFor(() => expect(told).toEqual(['READY=1', 'WATCHDOG=1']), 10_000);
    stop();
    server.close();
  });

  it('is not fed when the agent answers with an error, or not at all', async () => {
    const { url, server, asked } = await served(500);
    const stop = await watchOver(url, log, { NOTIFY_SOCKET: '/x', WATCHDOG_USEC: '100000' });
    await vi.waitFor(() => expect(asked()).toBeGreaterThan(0), 10_000);
    stop();
    server.close();
    expect(told).toEqual(['READY=1']);
  });

  it('is left alone where the service manager has none', async () => {
    const stop = await watchOver('http://127.0.0.1:1/', log, { NOTIFY_SOCKET: '/x' });
    expect(told).toEqual(['READY=1']);
    stop();
  });
});
