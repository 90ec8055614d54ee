/** What the codec and router alone decide in the recorded exchanges of the original guest agent. */
import { once } from 'node:events';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { describeWithFixtures, fixtureJson } from '@dstack-cloud/test/fixtures';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { RpcError } from '../errors.ts';
import { DstackGuest, Tappd, Worker } from '../gen/guest_agent_pb.ts';
import { GuestApi } from '../gen/guest_api_pb.ts';
import { configureServer } from './configure-server.ts';
import { createPrpcHandler } from './handler.ts';
import type { Mount } from './options.ts';
import { implement } from './service.ts';

type Recorded = {
  id: string;
  listener: string;
  request: {
    verb: string;
    target: string;
    headers?: [string, string][];
    body?: { utf8?: string; hex?: string };
  };
  status: number;
  response?: { utf8?: string; hex?: string };
};

/** Texts that come from the reader of requests, before any method runs. */
const READER =
  /invalid type|duplicate field|Odd number|Invalid character|EOF while|trailing characters|key must be|expected value|unicode code point|hex escape|Multiple values|utf-8 sequence|failed to decode Protobuf|Service not found|invalid digit|invalid value/;

/** Where ours differs on purpose. */
const WANTED: Record<string, string> = {
  'guest.GetKey.ct.9': 'parameters of a content type are not judged',
  'guest.route.2': 'EmitEvent is served, as v0.6 does',
  'guest.route.3': 'EmitEvent is served, as v0.6 does',
  'guest.route.3.json': 'EmitEvent is served, as v0.6 does',
  'guest.route.29': 'the HTTP library refuses it',
  'guest.route.30': 'the HTTP library refuses it',
  'guest.route.method-override': 'a form field does not change the verb',
  'guest.GetQuote.0X': '0X is accepted too',
  'guest.Attest.0X': '0X is accepted too',
  'guest.GetQuote.nonascii': 'the character is named, not its first byte',
  'guest.Attest.nonascii': 'the character is named, not its first byte',
  'guest.GetTlsKey.too-big': 'a number beyond 64 bits is an integer all the same',
};

describeWithFixtures('requests of guest-original', 'guest-original/expected.json', () => {
  const { cases } = fixtureJson<{ cases: Recorded[] }>('guest-original/expected.json');
  const servers = new Map<string, http.Server>();
  const stub = (names: readonly string[]): Record<string, () => never> =>
    Object.fromEntries(
      names.map((name) => [
        name,
        () => {
          throw new RpcError('reached', { status: 400 });
        },
      ]),
    );
  const served = (service: { methods: readonly { name: string }[] }): Record<string, () => never> =>
    stub(service.methods.map(({ name }) => name));
  const mounts: Record<string, Mount<undefined>> = {
    internal: { path: '/', services: [implement(DstackGuest)<undefined>(served(DstackGuest))] },
    'internal-v0': { path: '/prpc', trim: 'Tappd.', services: [implement(Tappd)<undefined>(served(Tappd))] },
    external: { path: '/prpc', trim: 'Worker.', services: [implement(Worker)<undefined>(served(Worker))] },
    'guest-api': { path: '/api', services: [implement(GuestApi)<undefined>(served(GuestApi))] },
  };

  beforeAll(async () => {
    for (const [name, mount] of Object.entries(mounts)) {
      const server = configureServer(http.createServer(createPrpcHandler({ mounts: [mount] })));
      await once(server.listen(0, '127.0.0.1'), 'listening');
      servers.set(name, server);
    }
  });
  afterAll(() => {
    for (const server of servers.values()) {
      server.closeAllConnections();
      server.close();
    }
  });

  const decided = cases.filter(
    ({ id, listener, status, response: body, request }) =>
      listener in mounts &&
      WANTED[id] === undefined &&
      !/@|^external\.(logs|route\.15)|^guest\.limit/.test(id) &&
      (status === 404 || status === 422 || READER.test(textOf(body))) &&
      ['GET', 'HEAD', 'POST', 'PUT', 'DELETE', 'PATCH', 'OPTIONS', 'TRACE'].includes(request.verb),
  );

  test('there are enough of them', () => {
    expect(decided.length).toBeGreaterThan(100);
  });

  test.each(decided)('$id', async ({ listener, request, status, response: body }) => {
    const { port } = servers.get(listener)!.address() as AddressInfo;
    const answer = await send(port, request);
    expect([answer.status, answer.text]).toEqual([status, expect.not.stringContaining('reached')]);
    const recorded = textOf(body);
    if (!recorded.startsWith('{\n  "error": "') || request.verb === 'HEAD') return;
    const { error } = JSON.parse(answer.text) as { error: string };
    const expected = (JSON.parse(recorded) as { error: string }).error;
    // Positions, and the words of the JSON library for strings, are not part of the contract.
    const plain = (text: string): string => text.replace(/ at line \d+ column \d+$/, '');
    if (!/unicode|surrogate|hex escape|utf-8/.test(expected)) expect(plain(error)).toBe(plain(expected));
  });
});

function textOf(body: Recorded['response']): string {
  if (body?.utf8 !== undefined) return body.utf8;
  return Buffer.from(body?.hex ?? '', 'hex').toString('latin1');
}

function send(port: number, request: Recorded['request']): Promise<{ status: number; text: string }> {
  return new Promise((resolve, reject) => {
    const outgoing = http.request(
      {
        host: '127.0.0.1',
        port,
        method: request.verb,
        path: request.target,
        headers: Object.fromEntries(request.headers ?? []),
      },
      (response) => {
        let text = '';
        response.setEncoding('utf8');
        response.on('data', (chunk: string) => {
          text += chunk;
        });
        response.on('end', () => resolve({ status: response.statusCode ?? 0, text }));
      },
    );
    outgoing.on('error', reject);
    const { utf8, hex } = request.body ?? {};
    outgoing.end(utf8 ?? Buffer.from(hex ?? '', 'hex'));
  });
}
