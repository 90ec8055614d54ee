/** Whatever comes over the wire, the handler answers with one of its statuses and goes on. */
import { once } from 'node:events';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import fc from 'fast-check';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { PrpcError } from '../errors.ts';
import { GetTlsKeyArgsSchema } from '../gen/guest_agent_pb.ts';
import { AppKeyResponseSchema, KMS } from '../gen/kms_pb.ts';
import { decodeJson, decodeQuery } from '../json/decode-json.ts';
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
  server = configureServer(
    http.createServer(createPrpcHandler({ mounts: [{ path: '/prpc', trim: 'KMS.', services: [service] }] })),
  );
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
