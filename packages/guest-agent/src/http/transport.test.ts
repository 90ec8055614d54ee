import { existsSync, lstatSync, realpathSync, statSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { describeWithFixtures, fixtureText } from '@dstack-cloud/test/fixtures';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type FixtureAgent, startFixtureAgent } from '../test/fixture-agent.ts';
import { send } from '../test/replay.ts';
import { inheritedSockets, listen, parseListenAddress } from './listen.ts';

describeWithFixtures('what raw clients of the socket rely on', 'simulator/attestation.bin', () => {
  let agent: FixtureAgent;
  beforeAll(async () => {
    agent = await startFixtureAgent({
      compose: JSON.stringify({ manifest_version: 2, name: 'ü☃😀', runner: 'bash', public_logs: true }),
    });
  });
  afterAll(() => agent.stop());

  /** Sends bytes, half-closes, and returns everything up to the server's close. */
  const raw = (text: string, path = agent.sockets.internal): Promise<string> =>
    new Promise((resolve, reject) => {
      const socket = connect({ path, allowHalfOpen: true });
      let answer = '';
      socket.setTimeout(5_000, () => reject(new Error('the server did not close')));
      socket.on('data', (chunk) => {
        answer += chunk.toString('latin1');
      });
      socket.once('end', () => {
        socket.end();
        resolve(answer);
      });
      socket.once('error', reject);
      socket.end(text);
    });

  it('answers with Content-Length, never chunked, ASCII only, and closes after the client', async () => {
    const answer = await raw(
      'POST /Info HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}',
    );
    const [head = '', body = ''] = answer.split('\r\n\r\n');
    expect(head).toMatch(/^HTTP\/1\.1 200/);
    expect(head).toMatch(/\r\nContent-Length: \d+/i);
    expect(head).not.toMatch(/transfer-encoding/i);
    expect(body).toMatch(/^[\x20-\x7e]*$/);
    expect(JSON.parse(body)).toMatchObject({ app_name: 'ü☃😀' });
  });

  it('a body that is shorter than the client meant is a 400', async () => {
    const body = '{"path":"ü"}';
    const answer = await raw(
      `POST /GetKey HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: ${body.length - 1}\r\n\r\n${body}`,
    );
    expect(answer).toMatch(/^HTTP\/1\.1 400/);
  });

  it('EmitEvent over recorded evidence is an error, since nothing is extended', async () => {
    const body = '{"event":"mine","payload":"00"}';
    const answer = await raw(
      `POST /EmitEvent HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body}`,
    );
    expect(answer).toMatch(/^HTTP\/1\.1 400/);
    expect(JSON.parse(answer.split('\r\n\r\n')[1] ?? '')).toMatchObject({
      error: expect.stringContaining('Events cannot be emitted'),
    });
  });

  it("a request without Host is answered, as the original's Rust client sends it", async () => {
    const request = fixtureText('interop-original/rust-tappd-no-host.http');
    expect(request).not.toMatch(/^host:/im);
    for (const path of [agent.sockets['internal-v0'], agent.sockets.internal]) {
      const answer = await raw(
        request.replace('/prpc/Tappd.', path === agent.sockets['internal-v0'] ? '/prpc/Tappd.' : '/'),
        path,
      );
      expect(answer).toMatch(/^HTTP\/1\.1 200/);
      expect(answer).toContain('"app_id"');
    }
  });

  it('both socket locations lead to the same listener, open to every container', () => {
    const second = join(agent.directory, 'dstack/dstack.sock');
    expect(lstatSync(second).isSymbolicLink()).toBe(true);
    expect(realpathSync(second)).toBe(realpathSync(agent.sockets.internal));
    expect(statSync(agent.sockets.internal).mode & 0o777).toBe(0o777);
  });

  it('sockets that are for no container are for this user alone', async () => {
    for (const socket of [agent.sockets.external, agent.sockets['guest-api']])
      expect(statSync(socket).mode & 0o777).toBe(0o600);
    const server = await listen({ kind: 'unix', path: join(agent.directory, 'own.sock') }, () => undefined);
    expect(statSync(join(agent.directory, 'own.sock')).mode & 0o777).toBe(0o600);
    await new Promise((resolve) => server.close(resolve));
  });

  it('a socket in use is left alone and named', async () => {
    const path = agent.sockets.internal;
    await expect(listen({ kind: 'unix', path }, () => undefined)).rejects.toMatchObject({
      code: 'listen-failed',
      message: expect.stringContaining('already in use'),
    });
    expect(existsSync(path)).toBe(true);
  });

  it('strangers cannot choose what the public attestation binds, nor ask for much of it', async () => {
    const get = async (target: string) => await send(agent.sockets.external, { verb: 'GET', target });
    const { body, headers } = await get('/attestation?nonce=00ff');
    // A verifier in a browser comes from another origin.
    expect(headers['access-control-allow-origin']).toBe('*');
    const { report_data, nonce } = JSON.parse(body.toString()) as Record<string, string>;
    expect(nonce).toBe('00ff');
    expect(report_data).toHaveLength(128);
    expect(report_data).not.toContain('00ff'.padEnd(128, '0'));
    expect((await get('/attestation?nonce=xyz')).status).toBe(400);
    expect((await get(`/attestation?nonce=${'00'.repeat(65)}`)).status).toBe(400);
    const statuses = await Promise.all(
      Array.from(
        { length: 40 },
        async (_, n) => (await get(`/attestation?nonce=${n.toString(16).padStart(4, '0')}`)).status,
      ),
    );
    expect(statuses).toContain(429);
  });

  it.each(['/logs/web%2Fjson%3F?text&bare', '/logs/..%2Finfo%3F?text&bare', '/logs/-x', '/logs/a/b'])(
    '%s never reaches the engine',
    async (target) => expect((await send(agent.sockets.external, { verb: 'GET', target })).status).toBe(404),
  );

  it('keys and evidence are not on the external listener', async () => {
    for (const target of [
      '/prpc/GetKey',
      '/prpc/Worker.GetQuote',
      '/prpc/EmitEvent',
      '/GetKey',
      '/GetAttestation',
    ]) {
      expect((await send(agent.sockets.external, { verb: 'GET', target })).status, target).toBe(404);
    }
  });
});

describe('listen addresses', () => {
  it.each([
    ['unix:/a b', { kind: 'unix', path: '/a b' }],
    ['127.0.0.1:8090', { kind: 'tcp', host: '127.0.0.1', port: 8090 }],
    ['vsock:8000', { kind: 'vsock', port: 8000 }],
    ['[::1]:1', { kind: 'tcp', host: '::1', port: 1 }],
  ])('%s', (text, expected) => expect(parseListenAddress(text)).toEqual(expected));
  it.each(['8090', 'x:70000', 'vsock:3:8000', ''])('%j is refused', (text) => {
    expect(() => parseListenAddress(text)).toThrow(expect.objectContaining({ code: 'config-invalid' }));
  });
  it('takes over sockets only when they are meant for this process', () => {
    expect(inheritedSockets({ LISTEN_PID: '7', LISTEN_FDS: '2' }, 7)).toEqual([3, 4]);
    expect(inheritedSockets({ LISTEN_PID: '8', LISTEN_FDS: '2' }, 7)).toEqual([]);
    expect(inheritedSockets({ LISTEN_PID: '7', LISTEN_FDS: 'x' }, 7)).toEqual([]);
  });
});
