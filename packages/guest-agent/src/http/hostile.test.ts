/** The external listener against strangers: floods, malformed and slow requests, followers, clients that go away. */
import { writeFileSync } from 'node:fs';
import { type ClientRequest, type IncomingMessage, request } from 'node:http';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { describeWithFixtures } from '@dstack-cloud/test/fixtures';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { writeContainers } from '../machine/containers-file.ts';
import { type FixtureAgent, startFixtureAgent } from '../test/fixture-agent.ts';

interface Answer {
  readonly status: number;
  readonly body: string;
}

const compose = JSON.stringify({
  manifest_version: 2,
  name: 'app',
  runner: 'bash',
  public_logs: true,
  public_sysinfo: true,
  public_tcbinfo: true,
});
/** Strangers and a genuine client are different networks of the loopback. */
const STRANGER = '127.0.0.1';
const GENUINE = '127.0.0.2';

let fixture: FixtureAgent;
let port: number;
const opened: Socket[] = [];
beforeEach(async () => {
  fixture = await startFixtureAgent({ compose, external: '127.0.0.1:0' });
  port = Number(fixture.addresses.find((address) => address.startsWith('127.'))?.split(':')[1]);
});
afterEach(async () => {
  for (const socket of opened.splice(0)) socket.destroy();
  await fixture.stop();
});

/** Status 0 when the connection was closed without an answer. */
function ask(
  path: string,
  options: {
    from?: string;
    method?: string;
    body?: string | Uint8Array;
    headers?: Record<string, string>;
  } = {},
): Promise<Answer> {
  const { from = STRANGER, method = 'GET', body, headers = {} } = options;
  return new Promise((resolve) => {
    const outgoing = request(
      { host: '127.0.0.1', port, path, method, localAddress: from, agent: false, headers },
      (response: IncomingMessage) => {
        let text = '';
        response.setEncoding('utf8');
        response.on('data', (chunk: string) => {
          text += chunk;
        });
        const done = () => resolve({ status: response.statusCode ?? 0, body: text });
        response.once('end', done);
        response.once('error', done);
      },
    );
    outgoing.once('error', () => resolve({ status: 0, body: '' }));
    outgoing.end(body);
  });
}

async function open(from = STRANGER): Promise<Socket & { text(): string }> {
  const socket = connect({ host: '127.0.0.1', port, localAddress: from });
  opened.push(socket);
  let text = '';
  socket.on('data', (chunk: Buffer) => {
    text += chunk.toString('latin1');
  });
  socket.on('error', () => undefined);
  await new Promise((resolve) => socket.once('connect', resolve));
  return Object.assign(socket, { text: () => text });
}

const countByStatus = (answers: Answer[]): Record<number, number> => {
  const counts: Record<number, number> = {};
  for (const { status } of answers) counts[status] = (counts[status] ?? 0) + 1;
  return counts;
};
const statuses = async (answers: Promise<Answer>[]) => countByStatus(await Promise.all(answers));
const many = <T>(times: number, make: (n: number) => T): T[] =>
  Array.from({ length: times }, (_, n) => make(n));
const spyOnDevice = () => vi.spyOn(fixture.agent.device, 'attest');

describeWithFixtures('the external listener against strangers', 'simulator/attestation.bin', () => {
  it('one who floods every route that needs evidence gets little of it, and others theirs', async () => {
    const quotes = spyOnDevice();
    const attempts = many(40, (n) => [
      () => ask(`/attestation?nonce=${n.toString(16).padStart(4, '0')}`),
      () =>
        ask(`/prpc/Worker.GetAttestationForAppKey?json`, {
          method: 'POST',
          body: JSON.stringify({ algorithm: ['ed25519', 'secp256k1'][n % 2] }),
        }),
      () => ask('/attestation'),
      () => ask('/prpc/Worker.Info'),
      () => ask('/'),
    ]).flat();
    // Within its share of connections and of requests: nothing but the limit on evidence turns it away.
    const answers = many(32, async () => {
      const got: Answer[] = [];
      for (let make = attempts.shift(); make !== undefined; make = attempts.shift()) got.push(await make());
      return got;
    });
    const flood = Promise.all(answers).then((lists) => countByStatus(lists.flat()));
    const genuine = await ask('/attestation?nonce=abcdef', { from: GENUINE });
    expect(genuine.status).toBe(200);
    expect(JSON.parse(genuine.body)).toMatchObject({ nonce: 'abcdef' });
    expect((await ask('/prpc/Worker.Info', { from: GENUINE })).status).toBe(200);
    const counts = await flood;
    // Those of the same evidence share one; each nonce is one.
    expect(counts[429]).toBeGreaterThan(20);
    expect(counts[500] ?? 0).toBe(0);
    expect(counts[0] ?? 0).toBe(0);
    expect(quotes.mock.calls.length).toBeLessThan(30);
  });

  it('a device that fails is not asked more often because strangers ask', async () => {
    vi.spyOn(fixture.agent.device, 'attest').mockRejectedValue(new Error('busy'));
    fixture.agent.local.changed();
    const counts = await statuses(
      many(100, () => [ask('/prpc/Worker.Info'), ask('/'), ask('/attestation')]).flat(),
    );
    expect((counts[503] ?? 0) + (counts[500] ?? 0)).toBeGreaterThan(0);
    expect(vi.mocked(fixture.agent.device.attest).mock.calls.length).toBeLessThan(20);
  });

  it('what no client sends is refused, and holds nobody up', async () => {
    const delay = monitorEventLoopDelay({ resolution: 5 });
    delay.enable();
    const answers = await Promise.all([
      ask(`/attestation?nonce=${'0'.repeat(8000)}`),
      ask('/attestation?nonce=zz'),
      ask('/attestation?nonce=%00%ff'),
      ask(`/${'a'.repeat(30_000)}`),
      ask('/prpc/Worker.Info?json', { method: 'POST', body: '{"a":'.repeat(1000) }),
      ask('/prpc/Worker.GetAttestationForAppKey?json', {
        method: 'POST',
        body: `{"algorithm":"${'x'.repeat(100_000)}"}`,
      }),
      ask('/prpc/Worker.GetAttestationForAppKey', {
        method: 'POST',
        body: new Uint8Array(100_000).fill(0xff),
      }),
      ask('/prpc/Worker.Nothing', { method: 'POST', body: '{}' }),
      ask('/prpc/../logs/x'),
      ask('/metrics', { method: 'DELETE' }),
      ask('/', { headers: Object.fromEntries(many(300, (n) => [`x-${n}`, 'y'.repeat(100)])) }),
      ask('/logs/..%2f..%2fetc%2fpasswd'),
      ask(`/logs/x?since=${'9'.repeat(500)}`),
    ]);
    delay.disable();
    for (const [index, { status }] of answers.entries()) {
      expect([0, 200, 400, 404, 413, 422, 431], `request ${index}`).toContain(status);
      expect(status, `request ${index}`).not.toBe(500);
    }
    expect(delay.max / 1e6).toBeLessThan(1_000);
    for (const text of [
      '\0\0\0\0\r\n\r\n',
      'GET / HTTP/9.9\r\n\r\n',
      `${'x'.repeat(100_000)}\r\n`,
      '\x16\x03\x01\x02\0\x01',
    ]) {
      const socket = await open();
      socket.write(text);
      await new Promise((resolve) => {
        if (socket.closed) resolve(undefined);
        socket.once('close', resolve);
        setTimeout(resolve, 3_000);
      });
      expect(socket.text()).not.toContain('200 OK');
    }
    expect((await ask('/healthz', { from: GENUINE })).status).toBe(200);
  });

  it('silent and half-said connections of one network leave room for others', async () => {
    const sockets = await Promise.all(many(300, () => open().catch(() => undefined)));
    for (const [n, socket] of sockets.entries()) socket?.write(n % 2 === 0 ? '' : 'GET / HTTP/1.1\r\nX:');
    const genuine = await statuses(many(20, () => ask('/healthz', { from: GENUINE })));
    expect(genuine).toEqual({ 200: 20 });
  });

  it('followers of logs have a share, of one network a smaller one', async () => {
    const service = { name: 'web', state: 'running', exitCode: undefined, startedAt: 0 };
    writeContainers(join(fixture.directory, 'containers.json'), [service as never]);
    writeFileSync(join(fixture.directory, 'web.log'), 'hello\n', { mode: 0o600 });
    const follow = (from: string) =>
      new Promise<number>((resolve) => {
        const outgoing: ClientRequest = request(
          { host: '127.0.0.1', port, path: '/logs/web?follow&text&bare', localAddress: from, agent: false },
          (response) => {
            opened.push(response.socket as Socket);
            resolve(response.statusCode ?? 0);
          },
        );
        outgoing.once('error', () => resolve(0));
        outgoing.end();
      });
    const own = await Promise.all(many(20, () => follow(STRANGER)));
    expect(own.filter((status) => status === 200)).toHaveLength(8);
    expect(await follow(GENUINE)).toBe(200);
    // Who goes away gives the place back.
    for (const socket of opened.splice(0)) socket.destroy();
    await expect.poll(() => follow(STRANGER), { timeout: 10_000 }).toBe(200);
  });

  it('clients that go away in the middle of everything do no harm', async () => {
    for (let round = 0; round < 5; round += 1) {
      const sockets = await Promise.all(many(20, () => open()));
      for (const [n, socket] of sockets.entries()) {
        socket.write(
          `GET /${['', 'attestation?nonce=01', 'prpc/Worker.Info', 'metrics'][n % 4]} HTTP/1.1\r\nHost: x\r\n\r\n`,
        );
        if (n % 2 === 0) socket.resetAndDestroy();
        else setImmediate(() => socket.destroy());
      }
    }
    expect((await ask('/prpc/Worker.Version', { from: GENUINE })).status).toBe(200);
    expect((await ask('/attestation?nonce=02', { from: GENUINE })).status).toBe(200);
  });

  it('a flood of cheap requests of one network is turned away, and another one is served', async () => {
    const flood = statuses(many(1500, () => ask('/healthz')));
    const genuine = await statuses(many(20, () => ask('/healthz', { from: GENUINE })));
    expect(genuine).toEqual({ 200: 20 });
    const counts = await flood;
    expect((counts[200] ?? 0) + (counts[429] ?? 0) + (counts[0] ?? 0)).toBe(1500);
    expect(counts[200]).toBeLessThan(1000);
  });
});
