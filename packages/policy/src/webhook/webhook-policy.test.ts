/** The auth API client: only a complete, well-typed answer in time allows anything. */

import type { ServerResponse } from 'node:http';
import { createServer } from 'node:net';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { isPlainRemote } from '../backend-url.ts';
import type { Policy } from '../policy.ts';
import { facts } from '../test/facts.ts';
import { answerJson, type FakeServer, startFakeServer } from '../test/fake-server.ts';
import { webhookBody } from './webhook-body.ts';
import { webhookPolicy } from './webhook-policy.ts';

const allowed = { isAllowed: true, gatewayAppId: 'any', reason: '' };
const open: { close(): unknown }[] = [];
afterEach(async () => {
  await Promise.all(open.splice(0).map((one) => one.close()));
});

async function asked(
  answer: (response: ServerResponse) => void,
  path = '',
): Promise<{ server: FakeServer; policy: Policy }> {
  const server = await startFakeServer((_, response) => answer(response));
  const policy = webhookPolicy({ url: server.url + path, version: '0.6.0', timeoutMs: 400 });
  open.push(server, { close: () => policy.close?.() });
  return { server, policy };
}

describe('question', () => {
  test.each([
    ['', '/bootAuth/app'],
    ['/', '/bootAuth/app'],
    ['/auth', '/auth/bootAuth/app'],
    ['/auth/', '/auth/bootAuth/app'],
  ])('url ending %j is asked at %s', async (suffix, path) => {
    const { server, policy } = await asked((response) => answerJson(response, allowed), suffix);
    expect(await policy.authorize('app', facts())).toEqual({
      allowed: true,
      reason: '',
      gatewayAppId: 'any',
    });
    expect(server.seen[0]).toMatchObject({
      method: 'POST',
      path,
      body: webhookBody(facts()),
      headers: { 'content-type': 'application/json', 'user-agent': 'dstack-kms/0.6.0', accept: '*/*' },
    });
  });

  test('epochs and roots are taken over, in one form', async () => {
    const said = {
      keyEpoch: 2,
      minKeyEpoch: 0,
      keyRoot: `0x${'AB'.repeat(20)}`,
      previousKeyRoots: ['cd'.repeat(20)],
    };
    const { policy } = await asked((response) => answerJson(response, { ...allowed, ...said }));
    expect(await policy.authorize('app', facts())).toMatchObject({ ...said, keyRoot: 'ab'.repeat(20) });
    const silent = { keyEpoch: null, keyRoot: null, previousKeyRoots: null };
    const { policy: other } = await asked((response) => answerJson(response, { ...allowed, ...silent }));
    expect(Object.keys(await other.authorize('app', facts()))).toEqual(['allowed', 'reason', 'gatewayAppId']);
  });

  test('a KMS is asked about elsewhere', async () => {
    const { server, policy } = await asked((response) => answerJson(response, allowed));
    await policy.authorize('kms', facts());
    expect(server.seen[0]?.path).toBe('/bootAuth/kms');
  });

  test('one connection serves many questions', async () => {
    const { server, policy } = await asked((response) => answerJson(response, allowed));
    for (let i = 0; i < 10; i++) await policy.authorize('app', facts());
    expect(server.connections()).toBe(1);
  });
});

describe('answer', () => {
  const cases: [string, (response: ServerResponse) => void, string, RegExp][] = [
    [
      '403',
      (r) => answerJson(r, { ...allowed, isAllowed: false }, 403),
      'backend-status',
      /returned 403 Forbidden: \{/,
    ],
    [
      '500',
      (r) => r.writeHead(500).end('boom'),
      'backend-status',
      /^auth api returned 500 Internal Server Error: boom$/,
    ],
    ['302 with a permission', (r) => answerJson(r, allowed, 302), 'backend-status', /returned 302 Found/],
    [
      'HTML',
      (r) => r.end('<html>'),
      'backend-answer',
      /not JSON: Expected a value at line 1 column 1, body=<html>$/,
    ],
    ['nothing', (r) => r.end(), 'backend-answer', /not JSON/],
    ['no reason', (r) => answerJson(r, { isAllowed: true, gatewayAppId: '' }), 'backend-answer', /reason/],
    [
      'null for the gateway',
      (r) => answerJson(r, { ...allowed, gatewayAppId: null }),
      'backend-answer',
      /gatewayAppId/,
    ],
    [
      'a root id that is none',
      (r) => answerJson(r, { ...allowed, keyRoot: 'latest' }),
      'backend-answer',
      /keyRoot/,
    ],
    [
      'a list of root ids with one that is none',
      (r) => answerJson(r, { ...allowed, previousKeyRoots: ['11'.repeat(20), ''] }),
      'backend-answer',
      /previousKeyRoots/,
    ],
    ['"true"', (r) => answerJson(r, { ...allowed, isAllowed: 'true' }), 'backend-answer', /isAllowed/],
    ['1', (r) => answerJson(r, { ...allowed, isAllowed: 1 }), 'backend-answer', /isAllowed/],
    [
      'yes after no',
      (r) => r.end('{"isAllowed":false,"isAllowed":true,"gatewayAppId":"","reason":""}'),
      'backend-answer',
      /Repeated member "isAllowed"/,
    ],
    ['an array', (r) => answerJson(r, [allowed]), 'backend-answer', /decode/],
    [
      'a huge gateway',
      (r) => answerJson(r, { ...allowed, gatewayAppId: 'x'.repeat(257) }),
      'backend-answer',
      /too long/,
    ],
    [
      'more than 64 KiB',
      (r) => r.end(JSON.stringify(allowed) + ' '.repeat(70_000)),
      'backend-answer',
      /longer than/,
    ],
    ['no UTF-8', (r) => r.end(Buffer.from([0xff, 0xfe])), 'backend-answer', /UTF-8/],
    [
      'a cut connection',
      (r) => r.writeHead(200, { 'content-length': '500' }).write('{', () => r.destroy()),
      'backend-unreachable',
      /./,
    ],
  ];
  test.each(cases)('%s allows nothing', async (_, answer, code, message) => {
    const { server, policy } = await asked(answer);
    const error = await policy.authorize('app', facts()).catch((caught: unknown) => caught as Error);
    expect(error).toMatchObject({ code, message: expect.stringMatching(message) });
    expect((error as Error).message).not.toContain(server.url);
  });

  test('201 and extra keys are fine', async () => {
    const { policy } = await asked((response) => answerJson(response, { ...allowed, extra: 1 }, 201));
    expect((await policy.authorize('app', facts())).allowed).toBe(true);
  });

  test('auth-answer-multibyte: a long reason is cut between characters', async () => {
    const reason = `a${'é'.repeat(600)}`;
    const { policy } = await asked((response) =>
      answerJson(response, { ...allowed, isAllowed: false, reason }),
    );
    expect(await policy.authorize('app', facts())).toEqual({
      allowed: false,
      reason: `a${'é'.repeat(255)}`,
      gatewayAppId: 'any',
    });
    const failing = await asked((response) => response.writeHead(503).end(reason));
    await expect(failing.policy.authorize('app', facts())).rejects.toMatchObject({ code: 'backend-status' });
  });

  test.each([
    ['authorization backend unavailable', 'unavailable'],
    ['on-chain state is stale', 'stale'],
    ['RPC quorum not reached', 'no-quorum'],
    ['Compose hash not allowed', undefined],
  ] as const)('"%s" is told apart from what it is not: %s', async (reason, failure) => {
    const { policy } = await asked((response) =>
      answerJson(response, { ...allowed, isAllowed: false, reason }),
    );
    const decision = await policy.authorize('app', facts());
    expect(decision).toMatchObject({ allowed: false, reason });
    expect(decision.failure).toBe(failure);
  });

  test('a reason does not carry the address of an RPC endpoint', async () => {
    const reason = 'HTTP request failed. URL: https://rpc.example/v2/KEY';
    const { policy } = await asked((response) =>
      answerJson(response, { ...allowed, isAllowed: false, reason }),
    );
    expect((await policy.authorize('app', facts())).reason).toBe('HTTP request failed. URL: <address>');
  });
});

describe('trouble', () => {
  test('webhook-hangs: a silent auth API ends in an error, in time', async () => {
    const { policy } = await asked(() => {});
    const before = performance.now();
    await expect(policy.authorize('app', facts())).rejects.toMatchObject({ code: 'backend-timeout' });
    expect(performance.now() - before).toBeLessThan(2_000);
  });

  test('webhook-hangs: so does one that trickles', async () => {
    const { policy } = await asked((response) => {
      const timer = setInterval(() => response.write(' '), 50);
      response.on('close', () => clearInterval(timer));
    });
    await expect(policy.authorize('app', facts())).rejects.toMatchObject({ code: 'backend-timeout' });
  });

  test('one retry when nobody listens, which helps after a restart', async () => {
    const { server, policy } = await asked((response) => answerJson(response, allowed));
    await policy.authorize('app', facts());
    await server.close();
    const pending = policy.authorize('app', facts());
    await vi.waitFor(async () => {
      open.push(await startFakeServer((_, response) => answerJson(response, allowed), server.port));
    });
    expect((await pending).allowed).toBe(true);
  });

  test('nobody listens for good', async () => {
    const free = createServer();
    await new Promise<void>((done) => free.listen(0, '127.0.0.1', () => done()));
    const { port } = free.address() as { port: number };
    await new Promise<void>((done) => free.close(() => done()));
    const policy = webhookPolicy({ url: `http://127.0.0.1:${port}` });
    await expect(policy.authorize('app', facts())).rejects.toMatchObject({
      code: 'backend-unreachable',
      message: 'authorization backend: connection failed (ECONNREFUSED)',
    });
  });
});

describe('GET', () => {
  const info = {
    status: 'ok',
    kmsContractAddr: '0x1',
    gatewayAppId: 'g',
    chainId: 1,
    appImplementation: '0x2',
  };

  test('asks exactly the configured URL, once for all who wait', async () => {
    const { server, policy } = await asked(
      (response) => answerJson(response, { ...info, appAuthImplementation: '0x2' }),
      '/auth',
    );
    const answers = await Promise.all([policy.describe(), policy.describe()]);
    expect(answers[0]).toEqual({
      kmsContract: '0x1',
      gatewayAppId: 'g',
      chainId: 1,
      appImplementation: '0x2',
    });
    expect(server.seen.map(({ method, path }) => `${method} ${path}`)).toEqual(['GET /auth']);
  });
  test('passes ethRpcUrl on', async () => {
    const { policy } = await asked((response) =>
      answerJson(response, { ...info, ethRpcUrl: 'https://rpc.example' }),
    );
    expect(await policy.describe()).toMatchObject({ ethRpcUrl: 'https://rpc.example' });
  });
  test.each([
    ['500', (r: ServerResponse) => answerJson(r, { statusCode: 500, error: 'x' }, 500), 'backend-status'],
    [
      'a missing field',
      (r: ServerResponse) => answerJson(r, { ...info, appImplementation: undefined }),
      'backend-answer',
    ],
    [
      'a chain id in quotes',
      (r: ServerResponse) => answerJson(r, { ...info, chainId: '1' }),
      'backend-answer',
    ],
  ])('%s is an error', async (_, answer, code) => {
    const { policy } = await asked(answer);
    await expect(policy.describe()).rejects.toMatchObject({ code });
  });
});

describe('plain HTTP', () => {
  test.each([
    ['http://127.0.0.1:8000', false],
    ['http://[::1]:8000', false],
    ['http://localhost:8000', false],
    ['http://127.9.0.1', false],
    ['http://[::ffff:127.0.0.1]', false],
    ['http://auth.localhost', false],
    ['http://auth-api:8000', true],
    ['http://127.0.0.1.example', true],
    ['http://localhost.example', true],
    ['http://user:SECRET@auth.example/SECRET', true],
    ['https://auth.example', false],
    ['http://auth.example', true],
    ['http://10.0.0.1:8000', true],
    ['http://[fd00::1]:8000', true],
  ])('%s', (url, warned) => {
    expect(isPlainRemote(new URL(url))).toBe(warned);
    const onWarning = vi.fn();
    webhookPolicy({ url, onWarning }).close?.();
    expect(onWarning).toHaveBeenCalledTimes(warned ? 1 : 0);
    expect(JSON.stringify(onWarning.mock.calls)).not.toContain('SECRET');
  });
  test.each(['auth-api:8000', 'ftp://x', ''])('%j is no URL for it', (url) => {
    expect(() => webhookPolicy({ url })).toThrow(expect.objectContaining({ code: 'bad-configuration' }));
  });
  test('an authority file without a certificate is refused at the start', () => {
    const wrong = () => webhookPolicy({ url: 'https://auth.example', ca: 'not a certificate' });
    expect(wrong).toThrow(expect.objectContaining({ code: 'bad-configuration' }));
  });
});
