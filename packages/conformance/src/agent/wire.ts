import { Agent } from 'node:http';
import { toHex, utf8 } from '@dstack-cloud/encoding';
import { create, fromBinary, GetKeyArgsSchema, GetKeyResponseSchema, toBinary } from '@dstack-cloud/prpc';
import { type ConformanceCase, expectSame, expectText, expectThat, reading } from '../case.ts';
import { type Exchange, exchange, jsonOf, rawExchange } from '../endpoint.ts';
import { call, expectRefusal, hexOf, refusal, textOf } from '../rpc.ts';
import type { AgentTarget } from './target.ts';

const JSON_TYPE = 'application/json';
const KEY = JSON.stringify({ path: 'conformance' });

/** The key of a JSON answer. */
function keyOf(answer: Exchange): string {
  expectSame('Status', answer.status, 200);
  expectText('Content-Type', answer.headers['content-type'], /^application\/json\b/);
  return hexOf(jsonOf(answer), 'key', 32);
}

async function expectedKey({ dstack }: AgentTarget): Promise<string> {
  return hexOf(await call(dstack, '/GetKey', { path: 'conformance' }), 'key', 32);
}

/** RPC over HTTP as the agent speaks it. */
export const WIRE_CASES: readonly ConformanceCase<AgentTarget>[] = [
  {
    id: 'agent.wire.get',
    checks: 'GET takes the arguments from the query, percent-decoded, and answers JSON.',
    section: 'kms.md 1.2',
    run: async (target) => {
      const path = '/GetKey?path=conformance&purpose=a%20b&algorithm=secp256k1';
      const answer = await exchange(target.dstack, { method: 'GET', path });
      expectSame('key', keyOf(answer), await expectedKey(target));
      const spaced = await call(target.dstack, '/GetKey', { path: 'a b/c+d' });
      const query = await exchange(target.dstack, { method: 'GET', path: '/GetKey?path=a+b%2Fc%2Bd' });
      expectSame('key of a query with + and %2B', keyOf(query), spaced['key']);
    },
  },
  {
    id: 'agent.wire.content-type',
    checks: 'A POST is JSON with Content-Type application/json in any case of letters, with parameters.',
    section: 'kms.md 1.2',
    run: async (target) => {
      const key = await expectedKey(target);
      for (const type of ['application/json; charset=utf-8', 'Application/JSON']) {
        const headers = { 'Content-Type': type };
        expectSame(
          `key with ${type}`,
          keyOf(await exchange(target.dstack, { path: '/GetKey', headers, body: KEY })),
          key,
        );
      }
    },
  },
  {
    id: 'agent.wire.json-query',
    checks: 'A POST is JSON with ?json, ?json=1 or ?json=true, whatever its Content-Type says.',
    section: 'kms.md 1.2',
    run: async (target) => {
      const key = await expectedKey(target);
      for (const query of ['json', 'json=1', 'json=true']) {
        const path = `/GetKey?${query}`;
        const headers = { 'Content-Type': 'application/octet-stream' };
        expectSame(
          `key with ?${query}`,
          keyOf(await exchange(target.dstack, { path, headers, body: KEY })),
          key,
        );
      }
    },
  },
  {
    id: 'agent.wire.protobuf',
    checks: 'A POST of another type is protobuf, and so is its answer.',
    section: 'kms.md 1.2',
    run: async (target) => {
      const body = toBinary(GetKeyArgsSchema, create(GetKeyArgsSchema, { path: 'conformance' }));
      const key = await expectedKey(target);
      for (const headers of [{}, { 'Content-Type': 'application/octet-stream' }]) {
        const answer = await exchange(target.dstack, { path: '/GetKey', headers, body });
        expectSame('Status', answer.status, 200);
        expectText('Content-Type', answer.headers['content-type'], /^application\/octet-stream\b/);
        const message = reading('GetKeyResponse', () => fromBinary(GetKeyResponseSchema, answer.body));
        expectSame('key', toHex(message.key), key);
        expectSame('Items of signature_chain', message.signatureChain.length, 2);
      }
    },
  },
  {
    id: 'agent.wire.unknown-method',
    checks: 'An unknown method is an error that names it, 400 or 404.',
    section: 'kms.md 1.4',
    run: async ({ dstack }) => {
      const { status, error } = await refusal(dstack, '/NoSuchMethod');
      expectThat(status === 400 || status === 404, `Status ${status}, expected 400 or 404`);
      expectSame('error', error, 'Service not found: NoSuchMethod');
    },
  },
  {
    id: 'agent.wire.unknown-method-404',
    checks: 'An unknown method is 404.',
    section: 'guest-agent.md 1',
    isExtension: true,
    run: async ({ dstack }) => expectSame('Status', (await refusal(dstack, '/NoSuchMethod')).status, 404),
  },
  {
    id: 'agent.wire.error-json',
    checks: 'An error is 400 and a JSON object with the member error, indented by two spaces.',
    section: 'kms.md 1.4',
    run: async ({ dstack }) => {
      const body = JSON.stringify({ algorithm: 'rsa' });
      const answer = await exchange(dstack, {
        path: '/GetKey',
        headers: { 'Content-Type': JSON_TYPE },
        body,
      });
      expectSame('Status', answer.status, 400);
      expectText('Body', textOf(answer.body), /^\{\n {2}"error": "Unsupported algorithm"/);
      jsonOf(answer);
    },
  },
  {
    id: 'agent.wire.error-protobuf',
    checks: 'The error of a protobuf request is protobuf: field 1 is the text.',
    section: 'kms.md 1.4',
    run: async ({ dstack }) => {
      const body = toBinary(GetKeyArgsSchema, create(GetKeyArgsSchema, { algorithm: 'rsa' }));
      const answer = await exchange(dstack, { path: '/GetKey', body });
      expectSame('Status', answer.status, 400);
      const text = 'Unsupported algorithm';
      expectSame('Body', textOf(answer.body), `\n${String.fromCharCode(text.length)}${text}`);
    },
  },
  {
    id: 'agent.wire.hex-input',
    checks: 'Bytes are hex of either case with or without 0x; an odd digit or another character is an error.',
    section: 'kms.md 1.3',
    run: async ({ dstack }) => {
      const data = 'AbCd01';
      const args = { algorithm: 'ed25519', data };
      const { signature } = await call(dstack, '/Sign', args);
      for (const same of ['abcd01', '0xABCD01', '0x0xabcd01'])
        expectSame(
          `signature of ${same}`,
          (await call(dstack, '/Sign', { ...args, data: same }))['signature'],
          signature,
        );
      for (const wrong of ['abc', 'zz']) await expectRefusal(dstack, '/Sign', { ...args, data: wrong }, /./);
    },
  },
  {
    id: 'agent.wire.unknown-field',
    checks: 'Unknown members and stray keys of the query are ignored.',
    section: 'kms.md 1.3',
    run: async (target) => {
      const key = await expectedKey(target);
      const answer = await call(target.dstack, '/GetKey', { path: 'conformance', nobody_knows: { a: [1] } });
      expectSame('key', answer['key'], key);
      const query = await exchange(target.dstack, { method: 'GET', path: '/GetKey?path=conformance&json' });
      expectSame('key by GET', keyOf(query), key);
    },
  },
  {
    id: 'agent.wire.malformed-json',
    checks: 'A member that comes twice, a member of another type, and text after the value are errors.',
    section: 'kms.md 1.3',
    run: async ({ dstack }) => {
      for (const body of [
        '{"path":"a","path":"b"}',
        '{"path":1}',
        '{"path":null}',
        '{"path":"a"} x',
        '{',
        '"a"',
      ])
        expectSame(`Status of ${body}`, (await refusal(dstack, '/GetKey', body)).status, 400);
    },
  },
  {
    id: 'agent.wire.defaults',
    checks: 'An empty body, {} and an empty query mean the defaults.',
    section: 'kms.md 1.2',
    run: async ({ dstack }) => {
      const { key } = await call(dstack, '/GetKey', { path: '', purpose: '', algorithm: '' });
      const headers = { 'Content-Type': JSON_TYPE };
      expectSame(
        'key of an empty body',
        keyOf(await exchange(dstack, { path: '/GetKey', headers, body: '' })),
        key,
      );
      expectSame('key of {}', keyOf(await exchange(dstack, { path: '/GetKey', headers, body: '{}' })), key);
      expectSame(
        'key of an empty query',
        keyOf(await exchange(dstack, { method: 'GET', path: '/GetKey' })),
        key,
      );
    },
  },
  {
    id: 'agent.wire.body-ignored',
    checks: 'A method without arguments ignores what it is sent.',
    section: 'kms.md 1.2',
    run: async ({ dstack }) => {
      const answer = await exchange(dstack, {
        path: '/Version',
        headers: { 'Content-Type': JSON_TYPE },
        body: '{not json',
      });
      expectSame('Status', answer.status, 200);
      expectText('version', jsonOf(answer)['version'], /./);
    },
  },
  {
    id: 'agent.wire.paths',
    checks:
      'A method is one percent-decoded, case-sensitive segment; slashes collapse, a trailing one is 404; no prefix.',
    section: 'kms.md 1.1',
    run: async (target) => {
      const { dstack } = target;
      const key = await expectedKey(target);
      for (const path of ['//GetKey', '/%47etKey'])
        expectSame(`key of ${path}`, (await call(dstack, path, { path: 'conformance' }))['key'], key);
      for (const path of ['/getkey', '/DstackGuest.GetKey']) await refusal(dstack, path);
      for (const path of ['/GetKey/', '/GetKey/x'])
        expectSame(`Status of ${path}`, (await exchange(dstack, { method: 'GET', path })).status, 404);
    },
  },
  {
    id: 'agent.wire.verbs',
    checks: 'HEAD answers as GET does without the body; verbs but GET, HEAD and POST are 404.',
    section: 'kms.md 1.1',
    run: async ({ dstack }) => {
      const head = await exchange(dstack, { method: 'HEAD', path: '/Version' });
      expectSame('Status of HEAD', head.status, 200);
      expectSame('Bytes of the body', head.body.length, 0);
      for (const method of ['PUT', 'DELETE'])
        expectSame(`Status of ${method}`, (await exchange(dstack, { method, path: '/Version' })).status, 404);
    },
  },
  {
    id: 'agent.wire.content-length',
    checks: 'Answers have a Content-Length, are not chunked, and write headers as `Name: value`.',
    section: 'guest-agent.md 1',
    run: async ({ dstack }) => {
      for (const path of ['/Info', '/GetKey', '/NoSuchMethod']) {
        const { text } = await rawExchange(dstack, post(path, '{}'), { halfClose: true });
        const [head = '', body = ''] = split(text);
        expectText(`Status line of ${path}`, head, /^HTTP\/1\.1 \d{3} /);
        for (const line of head.split('\r\n').slice(1)) expectText('Header', line, /^[^:\s]+: \S/);
        expectThat(!/\r\ntransfer-encoding:/i.test(head), `The answer to ${path} is chunked`);
        const length = /\r\ncontent-length: (\d+)/i.exec(head)?.[1];
        expectSame(`Content-Length of ${path}`, length, String(body.length));
      }
    },
  },
  {
    id: 'agent.wire.half-close',
    checks: 'The connection ends when the client closes its side after the answer.',
    section: 'guest-agent.md 1',
    run: async ({ dstack }) => {
      const { text, closed } = await rawExchange(dstack, post('/Version', '{}'), { halfClose: true });
      expectText('Status line', text, /^HTTP\/1\.1 200 /);
      expectThat(closed, 'The connection is still open 2 s after the client closed its side');
    },
  },
  {
    id: 'agent.wire.keep-alive',
    checks: 'A connection serves several requests.',
    section: 'kms.md 1',
    run: async ({ dstack }) => {
      const agent = new Agent({ keepAlive: true, maxSockets: 1 });
      try {
        const sockets = new Set<unknown>();
        agent.on('free', (socket) => sockets.add(socket));
        for (let i = 0; i < 3; i++) {
          const answer = await exchange(dstack, { method: 'GET', path: '/Version' }, agent);
          expectSame('Status', answer.status, 200);
          // The agent takes the connection back in the next turn.
          await new Promise((resolve) => setImmediate(resolve));
        }
        expectSame('Connections of three requests', sockets.size, 1);
      } finally {
        agent.destroy();
      }
    },
  },
  {
    id: 'agent.wire.ascii',
    checks: 'JSON is ASCII: other characters are escaped.',
    section: 'kms.md 1.3',
    isExtension: true,
    run: async ({ dstack }) => {
      const answer = await exchange(dstack, { method: 'GET', path: '/Caf%C3%A9' });
      expectThat(
        answer.body.every((byte) => byte < 0x80),
        'The body has bytes above 0x7f',
      );
      expectText('error', jsonOf(answer)['error'], /Café$/);
    },
  },
];

/** A request as the npm client writes it. */
function post(path: string, body: string): Uint8Array {
  return utf8(
    `POST ${path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body}`,
  );
}

function split(text: string): [string, string] {
  const end = text.indexOf('\r\n\r\n');
  return end < 0 ? [text, ''] : [text.slice(0, end), text.slice(end + 4)];
}
