/** Whatever comes over the wire, the handler answers with one of its statuses and goes on. */
import { once } from 'node:events';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import fc from 'fast-check';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { PrpcError } from '../errors.ts';
import { GetTlsKeyArgsSchema } from '../gen/guest_agent_pb.ts';
import { AppIdSchema, AppKeyResponseSchema, KMS } from '../gen/kms_pb.ts';
import { decodeJson, decodeQuery } from '../json/decode-json.ts';
import { checkWire } from './check-wire.ts';
import { configureServer } from './configure-server.ts';
import { createPrpcHandler } from './handler.ts';
import { resolvePath, splitTarget } from './resolve-path.ts';
import { implement } from './service.ts';

let server: http.Server;
let port: number;
beforeAll(async () => {
  const service = implement(KMS)<undefined>({
    GetAppKey: () => ({}),
    GetAppEnvEncryptPubKey: ({ appId }) => ({ publicKey: appId }),
    GetMeta: () => ({}),
  });
  const handler = createPrpcHandler({ mounts: [{ path: '/prpc', trim: 'KMS.', services: [service] }] });
  // All of it comes from one address.
  server = configureServer(http.createServer(handler), { costBurst: 1e6 });
  await once(server.listen(0, '127.0.0.1'), 'listening');
  port = (server.address() as AddressInfo).port;
});
afterAll(() => {
  server.closeAllConnections();
  server.close();
});

function onlyOwnErrors(run: () => unknown): void {
  try {
    run();
  } catch (error) {
    expect(error).toBeInstanceOf(PrpcError);
  }
}

test('readers throw nothing but their own error', () => {
  const piece = fc.oneof(
    fc.constantFrom(
      'alt_names',
      'subject',
      'not_after',
      '[',
      ']',
      '[0]',
      '[a]',
      '=',
      '&',
      '%',
      '%ff',
      '%5B',
      '+',
      '0x',
      '1',
    ),
    fc.string({ maxLength: 6 }),
  );
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 24 }), (pieces) => {
      onlyOwnErrors(() => decodeQuery(GetTlsKeyArgsSchema, pieces.join('')));
      onlyOwnErrors(() =>
        resolvePath('GET', splitTarget(pieces.join('')).path, [{ path: '/', services: [] }], []),
      );
    }),
    { numRuns: 500 },
  );
  fc.assert(
    fc.property(fc.json(), (text) => {
      onlyOwnErrors(() => decodeJson(GetTlsKeyArgsSchema, text));
      onlyOwnErrors(() => decodeJson(AppKeyResponseSchema, `{"previous_keys":${text},"key_epoch":${text}}`));
    }),
  );
});

test('a large text of many small values is refused before it holds up everybody else', () => {
  const values = (count: number): string => `{"x":[${'[],'.repeat(count)}1]}`;
  expect(decodeJson(AppKeyResponseSchema, values(1_000)).keyEpoch).toBeUndefined();
  expect(() => decodeJson(AppKeyResponseSchema, values(1_100))).toThrow('too many values');
  const names = (count: number): string =>
    `{${Array.from({ length: count }, (_, index) => `"n${index}":0`).join()}}`;
  expect(decodeJson(AppKeyResponseSchema, names(64)).keyEpoch).toBeUndefined();
  expect(() => decodeJson(AppKeyResponseSchema, names(65))).toThrow('too many unknown fields');
  const items = (count: number): string => `{"alt_names":[${'"",'.repeat(count - 1)}""]}`;
  expect(decodeJson(GetTlsKeyArgsSchema, items(4_096)).altNames).toHaveLength(4_096);
  expect(() => decodeJson(GetTlsKeyArgsSchema, items(4_097))).toThrow('too many items');
  const fields = (count: number): Uint8Array =>
    new Uint8Array(2 * count).fill(1).map((_, i) => 0x78 - 0x77 * (i % 2));
  expect(() => checkWire(AppKeyResponseSchema, fields(4_000))).not.toThrow();
  expect(() => checkWire(AppKeyResponseSchema, fields(4_100))).toThrow('too many fields');
});

test('what nobody asks for takes no memory, whatever it is', () => {
  const deep = `{"app_id":"11","x":${'{"y":['.repeat(60)}1${']}'.repeat(60)}}`;
  expect(decodeJson(AppIdSchema, deep).appId).toEqual(Uint8Array.of(0x11));
  expect(() => decodeJson(AppIdSchema, `{"app_id":${'{"y":['.repeat(9)}1${']}'.repeat(9)}}`)).toThrow(
    'invalid type: map, expected a string',
  );
  expect(() => decodeJson(AppIdSchema, '{"app_id":"11","app_id":"22"}')).toThrow('duplicate field `app_id`');
  expect(decodeJson(AppIdSchema, '{"x":1,"x":2}').appId).toHaveLength(0);
});

test('an error far down a long text is found in no time', () => {
  const started = performance.now();
  expect(() => decodeJson(AppIdSchema, `${'\n'.repeat(10_000_000)}x`)).toThrow('line 10000001 column 1');
  expect(performance.now() - started).toBeLessThan(2_000);
});

test('values as long as the body limit give short errors', () => {
  const id = '11'.repeat(20);
  expect(decodeJson(AppIdSchema, `{"app_id":"${'0x'.repeat(5_000_000)}${id}"}`).appId).toHaveLength(20);
  const long = `{"app_id":${'1'.repeat(1_000_000)}}`;
  onlyOwnErrors(() => decodeJson(AppIdSchema, long));
  expect(() => decodeJson(AppIdSchema, long)).toThrow(/^.{1,200}$/);
});

test('an error keeps the connection, unless much of the body has not come yet', async () => {
  const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
  const kept = (
    method: string,
    path: string,
    headers: http.OutgoingHttpHeaders,
    body?: string,
  ): Promise<string> =>
    new Promise((resolve, reject) => {
      const request = http.request({ host: '127.0.0.1', port, agent, method, path, headers }, (response) => {
        response.resume();
        response.on('end', () => resolve(String(response.headers.connection)));
      });
      request.on('error', reject);
      request.end(body);
    });
  expect(await kept('GET', '/prpc/Nope', {})).toBe('keep-alive');
  expect(await kept('GET', '/prpc/GetAppEnvEncryptPubKey?app_id=1', {})).toBe('keep-alive');
  expect(await kept('POST', '/prpc/Nope?json', {}, '{}')).toBe('keep-alive');
  expect(await kept('POST', '/prpc/Nope?json', {}, '{}'.padEnd(3_000_000))).toBe('close');
  agent.destroy();
});

test('requests of any form are answered with a known status', async () => {
  const agent = new http.Agent({ keepAlive: true, maxSockets: 4 });
  const send = (method: string, path: string, type: string, body: Uint8Array): Promise<number> =>
    new Promise((resolve, reject) => {
      const headers = type === '' ? {} : { 'Content-Type': type };
      const request = http.request({ host: '127.0.0.1', port, agent, method, path, headers }, (response) => {
        response.resume();
        response.on('end', () => resolve(response.statusCode ?? 0));
      });
      request.on('error', reject);
      request.setTimeout(5_000, () => request.destroy(new Error('no answer')));
      request.end(method === 'GET' || method === 'HEAD' ? undefined : body);
    });
  const segment = fc.constantFrom(
    'GetAppKey',
    'GetMeta',
    'KMS.GetAppEnvEncryptPubKey',
    'Nope',
    '',
    '%',
    '%2F',
    'a/b',
    '..',
  );
  const query = fc.constantFrom('', '?json', '?json=1', '?app_id=11', '?app_id=%', '?a[', '?json&json');
  await fc.assert(
    fc.asyncProperty(
      fc.constantFrom('GET', 'POST', 'HEAD', 'PUT', 'OPTIONS'),
      segment,
      query,
      fc.constantFrom('', 'application/json', 'text/plain', ';'),
      fc.uint8Array({ maxLength: 200 }),
      async (method, name, search, type, body) => {
        expect([200, 400, 404, 422]).toContain(await send(method, `/prpc/${name}${search}`, type, body));
      },
    ),
    { numRuns: 300 },
  );
  expect(await send('POST', '/prpc/GetMeta?json', '', new Uint8Array())).toBe(200);
  agent.destroy();
});
