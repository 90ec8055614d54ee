import { once } from 'node:events';
import http, { type IncomingMessage } from 'node:http';
import net, { type AddressInfo } from 'node:net';
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createPrpcClient } from '../client/client.ts';
import { httpTransport } from '../client/http-transport.ts';
import { RpcError } from '../errors.ts';
import { AppIdSchema, KMS, PublicKeyResponseSchema } from '../gen/kms_pb.ts';
import { configureServer } from './configure-server.ts';
import { createPrpcHandler } from './handler.ts';
import type { CallRecord } from './options.ts';
import { implement } from './service.ts';

let server: http.Server;
let port: number;
const calls: CallRecord[] = [];

beforeAll(async () => {
  const handler = createPrpcHandler<{ peer: string }>({
    mounts: [
      {
        path: '/prpc',
        trim: 'KMS.',
        limits: { GetKey: 16, SignCert: 10 * 1024 * 1024 },
        services: [
          implement(KMS)({
            GetAppEnvEncryptPubKey: ({ appId }) => ({ publicKey: appId, timestamp: 17n }),
            GetAppKey: async () => {
              throw new RpcError('App not allowed: é', { code: 'UNAUTHORIZED' });
            },
            GetKmsKey: () => {
              throw new Error('secret detail');
            },
            GetKey: () => ({}),
            SignCert: ({ csr }) => ({ certificateChain: [String(csr.length)] }),
            GetTempCaCert: () => ({ tempCaCert: 'x' }),
            ClearImageCache: () => undefined,
          }),
        ],
      },
    ],
    routes: [{ path: '/health', handle: () => ({ body: 'OK' }) }],
    headers: { Server: 'test' },
    before: (request) => {
      if (request.headers['x-bad'] !== undefined) throw new RpcError('invalid quote: bad');
      return { peer: 'none' };
    },
    onCall: (record) => calls.push(record),
  });
  server = configureServer(http.createServer(handler));
  await once(server.listen(0, '127.0.0.1'), 'listening');
  port = (server.address() as AddressInfo).port;
});

afterAll(() => {
  server.closeAllConnections();
  server.close();
});

type Answer = { status: number; headers: IncomingMessage['headers']; body: Buffer };

function ask(
  method: string,
  path: string,
  body: Uint8Array | string = '',
  headers: Record<string, string> = {},
): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const request = http.request({ port, host: '127.0.0.1', method, path, headers }, (response) => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk: Buffer) => chunks.push(chunk));
      response.on('end', () =>
        resolve({ status: response.statusCode ?? 0, headers: response.headers, body: Buffer.concat(chunks) }),
      );
    });
    request.on('error', reject);
    request.end(body);
  });
}

const ok = { app_id: '11' };
const notFound = (name: string): string =>
  `{\n  "error": "Service not found: ${name}",\n  "code": "UNIMPLEMENTED"\n}`;

test('a method without arguments answers before its body is there, and a client that then goes harms nobody', async () => {
  const socket = net.connect(port, '127.0.0.1');
  socket.write('POST /prpc/GetTempCaCert?json HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nab');
  const [answer] = (await once(socket, 'data')) as [Buffer];
  expect(answer.toString()).toMatch(/^HTTP\/1.1 200 /);
  socket.resetAndDestroy();
  expect((await ask('GET', '/health')).status).toBe(200);
});

describe('routing (docs/protocol/kms.md section 1.1)', () => {
  test.each([
    ['POST', '/prpc/GetAppEnvEncryptPubKey?json'],
    ['POST', '/prpc/KMS.GetAppEnvEncryptPubKey?json=1'],
    ['POST', '/prpc/KMS.KMS.GetAppEnvEncryptPubKey?a=b&json=true'],
    ['POST', '//prpc//%47etAppEnvEncryptPubKey?json'],
  ])('%s %s answers JSON', async (verb, path) => {
    const { status, headers, body } = await ask(verb, path, JSON.stringify(ok));
    expect(status).toBe(200);
    expect(headers['content-type']).toBe('application/json');
    expect(headers['content-length']).toBe(String(body.length));
    expect(body.toString()).toBe('{"public_key":"11","signature":"","timestamp":17,"signature_v1":""}');
  });

  test('GET takes the query, HEAD gives no body, a POST does not read its query', async () => {
    expect((await ask('GET', '/prpc/GetAppEnvEncryptPubKey?app_id=0x22')).body.toString()).toContain('"22"');
    const head = await ask('HEAD', '/prpc/GetAppEnvEncryptPubKey?app_id=0x22');
    expect([head.status, head.body.length]).toEqual([200, 0]);
    expect(Number(head.headers['content-length'])).toBeGreaterThan(0);
    const post = await ask('POST', '/prpc/GetAppEnvEncryptPubKey?json&app_id=22');
    expect(post.body.toString()).toContain('"public_key":""');
  });

  test.each(['', '?json=0', '?json=false', '?json=TRUE'])('binary with query "%s"', async (query) => {
    const body = toBinary(AppIdSchema, create(AppIdSchema, { appId: Uint8Array.of(7) }));
    const answer = await ask('POST', `/prpc/GetAppEnvEncryptPubKey${query}`, body);
    expect(answer.headers['content-type']).toBe('application/octet-stream');
    expect(fromBinary(PublicKeyResponseSchema, Uint8Array.from(answer.body)).publicKey).toEqual(
      Uint8Array.of(7),
    );
  });

  test.each([
    ['POST', '/prpc/', 422],
    ['POST', '/prpc', 404],
    ['POST', '/prpc/GetAppKey/', 404],
    ['PUT', '/prpc/GetAppKey', 404],
    ['OPTIONS', '/prpc/GetAppKey', 404],
    ['POST', '/health', 404],
    ['GET', '/', 404],
    ['GET', '/health', 200],
    ['HEAD', '/health', 200],
  ])('%s %s is %i', async (verb, path, status) => {
    expect((await ask(verb, path)).status).toBe(status);
  });

  test('a caller that prefers JSON gets the framework error as JSON', async () => {
    const { body } = await ask('GET', '/nope', '', { Accept: 'application/json' });
    expect(JSON.parse(body.toString())).toEqual({
      error: { code: 404, reason: 'Not Found', description: 'The requested resource could not be found.' },
    });
  });

  test.each([
    ['/prpc/Nope?json', 'Nope'],
    ['/prpc/kms.KMS.GetMeta?json', 'kms.KMS.GetMeta'],
    ['/prpc/KMS.?json', ''],
    ['/prpc/GetMeta?json', 'GetMeta'],
  ])('%s is an unknown method', async (path, name) => {
    const { status, body } = await ask('POST', path, '{}');
    expect(status).toBe(400);
    expect(body.toString()).toBe(notFound(name));
  });

  test('no return value is null or nothing', async () => {
    expect((await ask('POST', '/prpc/ClearImageCache?json')).body.toString()).toBe('null');
    expect((await ask('POST', '/prpc/ClearImageCache')).body).toHaveLength(0);
  });
});

describe('errors and limits (docs/protocol/kms.md sections 1.4 and 1.5)', () => {
  test('public errors are JSON with a code, ASCII only, or protobuf', async () => {
    const json = await ask('POST', '/prpc/GetAppKey?json', '{}');
    expect(json.body.toString()).toBe(
      '{\n  "error": "App not allowed: \\u00e9",\n  "code": "UNAUTHORIZED"\n}',
    );
    const binary = await ask('POST', '/prpc/GetAppKey');
    expect(binary.body.toString()).toBe('\n\u0013App not allowed: é');
  });

  test('other errors say nothing of their cause', async () => {
    const { body } = await ask('POST', '/prpc/GetKmsKey?json', '{}');
    expect(JSON.parse(body.toString())).toEqual({ error: 'internal error', code: 'INTERNAL_ERROR' });
    expect(String(calls.at(-1)?.error)).toContain('secret detail');
  });

  test('a refusal before dispatch hides whether the method exists', async () => {
    const { body } = await ask('POST', '/prpc/Nope?json', '', { 'x-bad': '1' });
    expect(JSON.parse(body.toString())).toEqual({ error: 'invalid quote: bad' });
  });

  test('body limits: 64 KiB pass, one byte more does not, a method may have its own', async () => {
    const limit = 64 * 1024;
    const fits = `{"app_id":"11"}`.padEnd(limit);
    expect((await ask('POST', '/prpc/GetAppEnvEncryptPubKey?json', fits)).status).toBe(200);
    const over = await ask('POST', '/prpc/GetAppEnvEncryptPubKey?json', `${fits} `);
    expect(over.status).toBe(400);
    expect(over.body.toString()).toContain('failed to read data: payload too large');
    const small = await ask('POST', '/prpc/GetKey?json', '{"name":"12345"}  ');
    expect(small.body.toString()).toContain('payload too large');
    const large = `{"csr":"${'00'.repeat(5_000_000)}"}`.padEnd(10 * 1024 * 1024);
    expect((await ask('POST', '/prpc/SignCert?json', large)).body.toString()).toContain('5000000');
    // Its sender reads the answer all the same.
    const refused = await ask('POST', '/prpc/GetKey?json', large);
    expect([refused.status, refused.body.toString()]).toEqual([
      400,
      expect.stringContaining('payload too large'),
    ]);
  });

  test('many large bodies at once are turned away before they fill the memory, small ones never', async () => {
    const crowded = http.createServer(
      createPrpcHandler({
        maxBufferedBytes: 800_000,
        mounts: [
          {
            path: '/',
            bodyLimit: 10 * 1024 * 1024,
            services: [implement(KMS)({ ClearImageCache: () => undefined })],
          },
        ],
      }),
    );
    await once(crowded.listen(0, '127.0.0.1'), 'listening');
    const target = { host: '127.0.0.1', port: (crowded.address() as AddressInfo).port, method: 'POST' };
    const waits: unknown[] = [];
    const post = (bytes: number, localAddress = '127.0.0.1'): Promise<number> =>
      new Promise((resolve, reject) => {
        const options = { ...target, localAddress, path: '/ClearImageCache?json' };
        const request = http.request(options, (response) => {
          response.resume();
          waits.push(response.headers['retry-after']);
          resolve(response.statusCode ?? 0);
        });
        request.on('error', reject);
        request.end('{}'.padEnd(bytes));
      });
    expect([await post(150_000), await post(500_000), await post(150_000)]).toEqual([200, 503, 200]);
    expect(waits).toEqual([undefined, '6', undefined]);

    // Begun and never ended: it holds most of what its address may have, a quarter.
    const stalled = net.connect(target.port, '127.0.0.1');
    stalled.write('POST /ClearImageCache?json HTTP/1.1\r\nHost: x\r\nContent-Length: 200001\r\n\r\n');
    stalled.write(' '.repeat(190_000));
    await expect.poll(() => post(150_000)).toBe(503);
    expect(await post(60_000)).toBe(200);
    expect(await post(150_000, '127.0.0.2')).toBe(200);
    stalled.destroy();
    await expect.poll(() => post(150_000)).toBe(200);
    crowded.closeAllConnections();
    crowded.close();
  });

  test('damaged protobuf is a bad request', async () => {
    const { status, body } = await ask('POST', '/prpc/GetAppEnvEncryptPubKey', Uint8Array.of(0x0a, 0xff));
    expect(status).toBe(400);
    expect(body.toString()).toContain('failed to decode Protobuf message');
  });

  test('a client that closes its sending side gets its answer and then the end', async () => {
    const socket = net.connect({ port, host: '127.0.0.1', allowHalfOpen: true });
    socket.end('GET /prpc/GetAppEnvEncryptPubKey?app_id=11 HTTP/1.1\r\nHost: localhost\r\n\r\n');
    let text = '';
    socket.on('data', (chunk: Buffer) => {
      text += chunk.toString();
    });
    await once(socket, 'end');
    expect(text).toContain('"public_key":"11"');
    socket.destroy();
  });
});

describe('client', () => {
  test.each(['json', 'binary'] as const)('calls with types and gets errors back (%s)', async (format) => {
    const transport = httpTransport({ baseUrl: `http://127.0.0.1:${port}/prpc` });
    const client = createPrpcClient(KMS, transport, { format });
    expect((await client.getAppEnvEncryptPubKey({ appId: Uint8Array.of(9) })).timestamp).toBe(17n);
    await client.clearImageCache();
    const error = await client.getAppKey({}).catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(RpcError);
    if (format === 'json')
      expect(error).toMatchObject({ message: 'App not allowed: é', code: 'UNAUTHORIZED' });
    transport.close();
  });

  test('a server that never answers is a time-out', async () => {
    const silent = net.createServer(() => undefined);
    await once(silent.listen(0, '127.0.0.1'), 'listening');
    const transport = httpTransport({
      baseUrl: `http://127.0.0.1:${(silent.address() as AddressInfo).port}`,
      timeoutMs: 100,
    });
    await expect(createPrpcClient(KMS, transport).getMeta()).rejects.toMatchObject({ code: 'timed_out' });
    transport.close();
    silent.close();
  });
});
