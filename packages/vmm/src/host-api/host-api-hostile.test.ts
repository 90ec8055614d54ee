/** The host API against a hostile guest: floods, malformed, slow and huge notifications, many at once, clients that go away. */
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { request, type Server } from 'node:http';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { LogFile } from '../logs/log-file.ts';
import { GuestNotes } from '../state/guest-notes.ts';
import { INITIAL_STATE, readState } from '../state/state.ts';
import { StateKeeper } from '../state/state-keeper.ts';
import { startHostApi } from './host-api.ts';

let directory: string;
let server: Server;
let keeper: StateKeeper;
const sockets: Socket[] = [];
const path = (name: string) => join(directory, name);

beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), 'host-'));
  keeper = new StateKeeper(directory, { ...INITIAL_STATE, status: 'preparing' });
  const notes = new GuestNotes(new LogFile(path('serial.log')), keeper);
  server = await startHostApi(path('host.sock'), (notification) => notes.take(notification));
});
afterEach(async () => {
  for (const socket of sockets.splice(0)) socket.destroy();
  server.closeAllConnections();
  server.close();
  await keeper.close();
  rmSync(directory, { recursive: true, force: true });
});

/** Status; 0 when the connection was closed without an answer. */
function post(body: string | Uint8Array, target = '/api/Notify?json'): Promise<number> {
  return new Promise((resolve) => {
    const options = { socketPath: path('host.sock'), path: target, method: 'POST', agent: false };
    const outgoing = request(options, (response) => {
      response.resume();
      response.once('end', () => resolve(response.statusCode ?? 0));
      response.once('error', () => resolve(0));
    });
    outgoing.once('error', () => resolve(0));
    outgoing.end(body);
  });
}

const notify = (event: string, payload: string) => post(JSON.stringify({ event, payload }));

async function open(): Promise<Socket> {
  const socket = connect({ path: path('host.sock') });
  sockets.push(socket);
  socket.on('error', () => undefined);
  await new Promise((resolve) => {
    socket.once('connect', resolve);
    socket.once('close', resolve);
  });
  return socket;
}

describe('a hostile guest', () => {
  it('fills neither log nor state nor loop with notifications, and its progress is still seen', async () => {
    const delay = monitorEventLoopDelay({ resolution: 5 });
    delay.enable();
    for (let round = 0; round < 40; round += 1)
      await Promise.all(
        Array.from({ length: 20 }, (_, n) => notify(`app.${round}.${n}`, '\u0001'.repeat(4096))),
      );
    expect(await notify('boot.progress', 'requesting app keys')).toBe(200);
    expect(await notify('boot.error', 'the last word')).toBe(200);
    delay.disable();
    expect(delay.max / 1e6).toBeLessThan(1_500);
    expect(keeper.state.boot_progress).toBe('requesting app keys');
    expect(keeper.bootError).toBe('the last word');
    await keeper.close();
    // 800 were sent; 100 at once and ten a second are kept.
    expect(readFileSync(path('serial.log'), 'utf8').split('\n').length).toBeLessThan(400);
    expect(statSync(path('vm-state.json')).size).toBeLessThan(256 * 1024);
    expect((await readState(directory)).error).toBe('the last word');
  });

  it('gets no large, damaged or foreign message in', async () => {
    const huge = new Uint8Array(3 * 1024 * 1024).fill(0x20);
    const statuses = await Promise.all([
      post(huge),
      post('{"event":"a","payload":"'.padEnd(70_000, 'x')),
      post('['.repeat(50_000)),
      post(`{"event":"__proto__","payload":"x","payload":"y"}`),
      post(new Uint8Array([0xff, 0xfe, 0x00])),
      post('{"event":"a","payload":"b"}', '/api/../../etc/passwd'),
      post('', `/api/${'x'.repeat(20_000)}`),
      notify('e'.repeat(5_000), ''),
    ]);
    for (const status of statuses) expect([0, 400, 404, 413, 414, 431]).toContain(status);
    expect(keeper.state.events).toEqual([]);
    expect(await notify('app.fine', 'x')).toBe(200);
  });

  it('that opens all connections and says nothing keeps nobody out for long', async () => {
    server.headersTimeout = 500;
    await Promise.all(Array.from({ length: 200 }, open));
    for (const [n, socket] of sockets.entries())
      socket.write(n % 2 === 0 ? '' : 'POST /api/Notify?json HTTP/1.1\r\n');
    // The silent ones are closed by themselves.
    await expect
      .poll(() => notify('boot.progress', 'still here'), { timeout: 20_000, interval: 250 })
      .toBe(200);
    expect(keeper.state.boot_progress).toBe('still here');
  });

  it('whose programs are killed in the middle of a notification does no harm', async () => {
    for (let round = 0; round < 30; round += 1) {
      const socket = await open();
      socket.write(
        'POST /api/Notify?json HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\n{"event":"boot.er',
      );
      socket.destroy();
    }
    expect(await notify('boot.progress', 'fine')).toBe(200);
    expect(keeper.bootError).toBeNull();
  });

  it('two at once each get their answer, and what they say is whole', async () => {
    await Promise.all([notify('app.a', 'a'.repeat(4096)), notify('app.b', 'b'.repeat(4096))]);
    await keeper.flush();
    const { events } = await readState(directory);
    expect(new Set(events.map(({ body }) => body))).toEqual(new Set(['a'.repeat(4096), 'b'.repeat(4096)]));
    expect(readdirSync(directory).filter((name) => name.endsWith('.tmp'))).toEqual([]);
  });

  it('is alone at the socket', () => {
    expect(statSync(path('host.sock')).mode & 0o777).toBe(0o600);
  });
});
