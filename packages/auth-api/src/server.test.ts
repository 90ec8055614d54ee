/** The service over HTTP: routes, refusals, and one question through client, service and contract. */
import { connect } from 'node:net';
import {
  type Anvil,
  addComposeHash,
  addOsImageHash,
  buildContracts,
  type ChainClient,
  connectChain,
  deployApp,
  deployKms,
  startAnvil,
} from '@dstack-cloud/contracts';
import { fromHex } from '@dstack-cloud/encoding';
import { type BootInfo, type Policy, PolicyError, webhookPolicy } from '@dstack-cloud/policy';
import { pino } from 'pino';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { createMetrics } from './metrics.ts';
import { type RunningServer, startServer } from './server.ts';
import { startPolicySource } from './start-policy-source.ts';

const hexBody = {
  mrAggregated: '55'.repeat(32),
  osImageHash: '77'.repeat(32),
  appId: '11'.repeat(20),
  composeHash: '22'.repeat(32),
  instanceId: '',
  deviceId: '44'.repeat(32),
};

const lines: string[] = [];
const log = pino({ level: 'debug' }, { write: (line: string) => void lines.push(line) });

/** A policy that answers as told. */
function told(answer: Partial<Policy>): Policy {
  return {
    authorize: async () => ({ allowed: true, reason: '', gatewayAppId: 'gateway' }),
    describe: async () => ({
      kmsContract: '0x1',
      chainId: 1,
      appImplementation: '0x2',
      gatewayAppId: 'gateway',
    }),
    ...answer,
  };
}

const running: RunningServer[] = [];
afterEach(async () => {
  lines.length = 0;
  await Promise.all(running.splice(0).map((server) => server.stop()));
});

async function serve(
  policy: Policy,
  lagSeconds: () => number | undefined = () => undefined,
): Promise<string> {
  const server = await startServer({ policy, log, metrics: createMetrics(lagSeconds) }, '127.0.0.1', 0);
  running.push(server);
  return server.url;
}

const post = (url: string, path: string, body: unknown): Promise<Response> =>
  fetch(url + path, { method: 'POST', body: typeof body === 'string' ? body : JSON.stringify(body) });

describe('routes', () => {
  test('GET /', async () => {
    const url = await serve(told({}));
    const response = await fetch(url);
    expect(response.status).toBe(200);
    expect(await response.json()).toEqual({
      status: 'ok',
      kmsContractAddr: '0x1',
      gatewayAppId: 'gateway',
      chainId: 1,
      appAuthImplementation: '0x2',
      appImplementation: '0x2',
    });
  });

  test('GET / when the chain is down', async () => {
    const failing = async (): Promise<never> => {
      throw new PolicyError('backend-unreachable', 'down', { detail: 'POST https://rpc.example: down' });
    };
    const response = await fetch(await serve(told({ describe: failing })));
    expect(response.status).toBe(500);
    expect(await response.json()).toEqual({ status: 'error', message: 'authorization backend unavailable' });
    expect(lines.join()).toContain('rpc.example');
  });

  test.each(['app', 'kms'] as const)('POST /bootAuth/%s', async (kind) => {
    const seen: string[] = [];
    const authorize: Policy['authorize'] = async (asked) => {
      seen.push(asked);
      return { allowed: true, reason: '', gatewayAppId: 'gateway' };
    };
    const response = await post(await serve(told({ authorize })), `/bootAuth/${kind}`, hexBody);
    expect(await response.json()).toEqual({ isAllowed: true, reason: '', gatewayAppId: 'gateway' });
    expect(seen).toEqual([kind]);
  });

  test('a denial is logged with what was not authorised', async () => {
    const authorize: Policy['authorize'] = async () => ({ allowed: false, reason: 'no', gatewayAppId: '' });
    const response = await post(await serve(told({ authorize })), '/bootAuth/app', hexBody);
    expect(await response.json()).toEqual({ isAllowed: false, reason: 'no', gatewayAppId: '' });
    const line = lines
      .map((text) => JSON.parse(text) as { msg: string })
      .find(({ msg }) => /measurement/.test(msg));
    expect(line).toMatchObject({ msg: 'measurement not authorized', reason: 'no', appId: '11'.repeat(20) });
  });

  test.each([
    [
      'an expected failure',
      new PolicyError('backend-timeout', 'late', { detail: 'https://rpc.example late' }),
    ],
    ['a bug', new TypeError('https://rpc.example is not a function')],
  ])('%s answers 200 with a refusal and no detail', async (_, error) => {
    const authorize = async (): Promise<never> => {
      throw error;
    };
    const response = await post(await serve(told({ authorize })), '/bootAuth/app', hexBody);
    expect(response.status).toBe(200);
    expect(await response.json()).toEqual({
      isAllowed: false,
      reason: 'authorization backend unavailable',
      gatewayAppId: '',
    });
  });

  test.each<[string, unknown, number]>([
    ['a missing key', { ...hexBody, composeHash: undefined }, 400],
    ['a short hash', { ...hexBody, composeHash: '22'.repeat(31) }, 400],
    ['no JSON', '{', 400],
    ['nothing', '', 400],
    ['a body without end', JSON.stringify({ ...hexBody, extra: 'x'.repeat(5_000_000) }), 413],
  ])('%s', async (_, body, status) => {
    const authorize = async (): Promise<never> => {
      throw new Error('must not be asked');
    };
    const response = await post(await serve(told({ authorize })), '/bootAuth/app', body);
    expect(response.status).toBe(status);
    expect(await response.json()).toMatchObject({
      isAllowed: false,
      reason: 'invalid authorization request',
      gatewayAppId: '',
    });
  });

  test.each([
    ['GET', '/bootAuth/app'],
    ['POST', '/'],
    ['POST', '/bootAuth/other'],
    ['GET', '/constructor'],
  ])('%s %s is nowhere', async (method, path) => {
    const response = await fetch((await serve(told({}))) + path, { method });
    expect(response.status).toBe(404);
  });

  test('health and metrics', async () => {
    const url = await serve(told({}), () => 7);
    await post(url, '/bootAuth/app', hexBody);
    await post(url, '/bootAuth/kms', '{');
    expect(await (await fetch(`${url}/health`)).text()).toBe('OK');
    const text = await (await fetch(`${url}/metrics`)).text();
    expect(text).toContain('dstack_auth_requests_total{kind="app",result="allowed"} 1');
    expect(text).toContain('dstack_auth_requests_total{kind="kms",result="invalid"} 1');
    expect(text).toContain('dstack_onchain_sync_lag_seconds 7');
  });

  test('HEAD answers as GET does, without a body', async () => {
    const url = await serve(told({}));
    for (const path of ['/', '/health']) {
      const response = await fetch(url + path, { method: 'HEAD' });
      expect([response.status, await response.text()]).toEqual([200, '']);
    }
    expect((await fetch(`${url}/bootAuth/app`, { method: 'HEAD' })).status).toBe(404);
  });

  test('stops as soon as what is under way is answered, also on a kept connection', async () => {
    let answer = (): void => undefined;
    const authorize: Policy['authorize'] = async () => {
      await new Promise<void>((resolve) => {
        answer = resolve;
      });
      return { allowed: true, reason: '', gatewayAppId: '' };
    };
    const url = await serve(told({ authorize }));
    const asked = post(url, '/bootAuth/app', hexBody);
    await expect.poll(() => answer).not.toBe(undefined);
    await new Promise((done) => setTimeout(done, 100));
    const began = performance.now();
    const stopped = running.splice(0)[0]?.stop();
    setTimeout(() => answer(), 200);
    expect((await asked).status).toBe(200);
    await stopped;
    expect(performance.now() - began).toBeLessThan(2_000);
  });

  test('a request that never ends is cut off in time', async () => {
    const url = await serve(told({}));
    const began = performance.now();
    const heard = await new Promise<string>((resolve) => {
      const socket = connect(Number(new URL(url).port), '127.0.0.1', () =>
        socket.write('POST / HTTP/1.1\r\n'),
      );
      let text = '';
      socket.on('data', (chunk: Buffer) => (text += chunk.toString()));
      socket.once('close', () => resolve(text));
    });
    expect(heard).toContain('408');
    expect(performance.now() - began).toBeLessThan(9_000);
  });

  test('connections of one address that say nothing leave room for others, and are counted', async () => {
    const url = await serve(told({}));
    const port = Number(new URL(url).port);
    const silent = Array.from({ length: 200 }, () =>
      connect({ host: '127.0.0.1', port, localAddress: '127.0.0.2' }),
    );
    for (const socket of silent) socket.on('error', () => undefined);
    const open = (): number => silent.filter(({ closed }) => !closed).length;
    await expect.poll(open).toBe(128);
    expect((await post(url, '/bootAuth/app', hexBody)).status).toBe(200);
    const text = await (await fetch(`${url}/metrics`)).text();
    expect(text).toContain('dstack_auth_connections_refused_total{reason="share"} 72');
    for (const socket of silent) socket.destroy();
  });

  test('requests that are no questions end their connection after a few', async () => {
    const url = await serve(told({}));
    const socket = connect(Number(new URL(url).port), '127.0.0.1');
    let text = '';
    socket.on('data', (chunk: Buffer) => {
      text += chunk.toString();
    });
    for (let sent = 1; sent <= 5; sent++) {
      socket.write('POST /bootAuth/app HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n{');
      await expect.poll(() => text.split('HTTP/1.1 400').length - 1).toBe(sent);
    }
    await expect.poll(() => socket.closed).toBe(true);
    expect(text).toMatch(/connection: close/i);
  });

  test('a client that goes away in the middle of its body does no harm', async () => {
    const url = await serve(told({}));
    const socket = connect(Number(new URL(url).port), '127.0.0.1');
    await new Promise<void>((done) => socket.once('connect', () => done()));
    socket.write('POST /bootAuth/app HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n{"appId"');
    await new Promise((done) => setTimeout(done, 50));
    socket.destroy();
    expect((await fetch(`${url}/health`)).status).toBe(200);
  });
});

describe('through client, service and contract', () => {
  let anvil: Anvil;
  let client: ChainClient;
  let kms: `0x${string}`;
  let app: `0x${string}`;
  beforeAll(async () => {
    await buildContracts();
    anvil = await startAnvil();
    client = await connectChain({ rpcUrl: anvil.rpcUrl, privateKey: anvil.accounts[0]!.privateKey });
    ({ kms } = await deployKms({ client }));
    ({ appId: app } = await deployApp({ client, kms, allowAnyDevice: true }));
    await addOsImageHash(client, kms, `0x${hexBody.osImageHash}`);
  });
  afterAll(() => anvil?.stop());

  test('denied, registered, allowed; described; and nothing once the chain is gone', async () => {
    const source = {
      type: 'chain',
      rpcUrls: [`${anvil.rpcUrl}/?key=KEY`],
      kmsContract: kms,
      chainId: 31_337,
    } as const;
    const opened = startPolicySource({ host: '', port: 0, logLevel: 'info', source }, log);
    const webhook = webhookPolicy({ url: await serve(opened.policy, opened.lagSeconds) });
    const facts: BootInfo = {
      mode: 'dstack-tdx',
      appId: fromHex(app, { prefix: 'allow' }),
      composeHash: fromHex(hexBody.composeHash),
      instanceId: new Uint8Array(),
      deviceId: fromHex(hexBody.deviceId),
      mrAggregated: fromHex(hexBody.mrAggregated),
      mrSystem: new Uint8Array(32),
      osImageHash: fromHex(hexBody.osImageHash),
      keyProviderInfo: new Uint8Array(),
      tcbStatus: 'UpToDate',
      advisoryIds: [],
    };
    try {
      expect(await webhook.authorize('app', facts)).toEqual({
        allowed: false,
        reason: 'Compose hash not allowed',
        gatewayAppId: '',
      });
      await addComposeHash(client, app, `0x${hexBody.composeHash}`);
      expect((await webhook.authorize('app', facts)).allowed).toBe(true);
      expect(await webhook.authorize('kms', facts)).toMatchObject({
        allowed: false,
        reason: 'Aggregated MR not allowed',
      });
      expect(await webhook.describe()).toMatchObject({
        kmsContract: kms,
        chainId: 31_337,
        ethRpcUrl: anvil.rpcUrl,
      });
      expect(lines.join()).toContain('on-chain sync completed');
      expect(opened.lagSeconds()).toBeLessThan(60);
      await anvil.stop();
      expect(await webhook.authorize('app', facts)).toEqual({
        allowed: false,
        reason: 'authorization backend unavailable',
        failure: 'unavailable',
        gatewayAppId: '',
      });
      expect(lines.join()).not.toContain('KEY');
    } finally {
      webhook.close?.();
      opened.close();
    }
  });
});
