import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { INITIAL_STATE } from '../../state/state.ts';
import { proxiedGuestRpc } from './proxied-guest-rpc.ts';

const LIMIT_MS = 300;

let dir: string;
let guest: Server;
let behave: (socket: Socket) => void;
const sockets = new Set<Socket>();
beforeEach(async () => {
  dir = mkdtempSync(join(tmpdir(), 'vmm-proxy-'));
  guest = createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => undefined);
    socket.once('data', () => {
      socket.write('OK 1\n');
      socket.once('data', () => behave(socket));
    });
  });
  await new Promise<void>((resolve) => guest.listen(join(dir, 'vm.vsock'), resolve));
});
afterEach(() => {
  for (const socket of sockets) socket.destroy();
  guest.close();
  rmSync(dir, { recursive: true });
});

/** Asks a machine whose guest behaves so. */
async function ask(runDir: string | null = dir): Promise<unknown> {
  const status = { dir, name: 'demo', manifest: undefined, state: { ...INITIAL_STATE, run_dir: runDir } };
  const machines = {
    find: async (id: string) =>
      ({
        id,
        status,
        manifest: undefined,
        isAlive: true,
        holdsHost: true,
        record: { schema: 1, started: true },
      }) as const,
    shutdown: async () => undefined,
  };
  const { methods } = proxiedGuestRpc(machines, LIMIT_MS);
  return await (methods as Record<string, (request: object, context: unknown) => Promise<unknown>>)['Info']!(
    { id: 'x' },
    undefined,
  );
}

describe('a guest behind the proxy', () => {
  it.each<[string, (socket: Socket) => void, RegExp]>([
    ['that says nothing', () => undefined, /does not answer Info: nothing within 0\.3 s/],
    [
      'that goes on for ever',
      (socket) => {
        socket.write('HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n');
        const drip = setInterval(() => socket.write(' '), 20);
        socket.once('close', () => clearInterval(drip));
      },
      /does not answer Info: nothing within 0\.3 s/,
    ],
    ['that hangs up', (socket) => socket.destroy(), /does not answer Info: /],
    [
      'that answers something else',
      (socket) => socket.end('HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n{"version":1}'),
      /The guest of demo answers something else/,
    ],
  ])('%s is an error of its own, within a bound', async (_, how, message) => {
    behave = how;
    const started = performance.now();
    await expect(ask()).rejects.toThrow(message);
    expect(performance.now() - started).toBeLessThan(10_000);
    // Nothing of the call is left.
    await expect.poll(() => [...sockets].every(({ destroyed }) => destroyed), { timeout: 10_000 }).toBe(true);
  });

  it('that does not run is not asked', async () => {
    await expect(ask(null)).rejects.toThrow(/demo is not running/);
  });
});
