import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { createLogger } from './log.ts';
import { watchOver } from './watchdog.ts';

const told: string[] = [];
vi.mock('@dstack-cloud/attestation/attester', () => ({
  notifyServiceManager: async (state: string) => told.push(state),
}));
const log = createLogger('test');
let folder: string;
beforeEach(() => {
  told.length = 0;
  folder = mkdtempSync(join(tmpdir(), 'watchdog-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

/** An agent's socket that answers with this status. */
async function served(
  status: number,
): Promise<{ socket: string; server: Server; asked: () => readonly string[] }> {
  const asked: string[] = [];
  const server = createServer((request, response) => {
    asked.push(`${request.method} ${request.url}`);
    response.statusCode = status;
    response.end('x');
  });
  const socket = join(folder, 'dstack.sock');
  await new Promise<void>((resolve) => server.listen(socket, resolve));
  return { socket, server, asked: () => asked };
}

describe('the watchdog', () => {
  it('is fed while the agent answers', async () => {
    const { socket, server, asked } = await served(200);
    const stop = await watchOver(socket, log, { NOTIFY_SOCKET: '/x', WATCHDOG_USEC: '100000' });
    await vi.waitFor(() => expect(told).toEqual(['READY=1', 'WATCHDOG=1']), 10_000);
    expect(asked()).toEqual(['POST /Version?json']);
    stop();
    server.close();
  });

  it('is not fed when the agent answers with an error, or not at all', async () => {
    const { socket, server, asked } = await served(500);
    const stop = await watchOver(socket, log, { NOTIFY_SOCKET: '/x', WATCHDOG_USEC: '100000' });
    await vi.waitFor(() => expect(asked()).not.toEqual([]), 10_000);
    stop();
    server.close();
    expect(told).toEqual(['READY=1']);
  });

  it('is left alone where the service manager has none', async () => {
    const stop = await watchOver(join(folder, 'nobody'), log, { NOTIFY_SOCKET: '/x' });
    expect(told).toEqual(['READY=1']);
    stop();
  });
});
