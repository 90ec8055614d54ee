import { once } from 'node:events';
import { createServer, type Socket } from 'node:net';
import { connect } from 'node:tls';
import { fromHex } from '@dstack-cloud/encoding';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { MAX_CLIENT_HELLO, readServerName } from './client-hello.ts';

/** Of TLS 1.2, recorded; names the host below. */
const RECORDED = fromHex(
  '16030100cb010000c70303c07511d63ab88cbe29ea8cc3a9b365d1abbd77e436006cd2f4d93ddfe687911c000004c02b00ff0100009a00000044004200003f333332373630336530336635626431663833303831326361346137383932373766633331663537372d38303830732e617070732e6578616d706c652e636f6d000b000403000102000a000c000a001d0017001e00190018002300000016000000170000000d002a0028040305030603080708080809080a080b080408050806040105010601030303010302040205020602',
);
const NAME = '3327603e03f5bd1f830812ca4a789277fc31f577-8080s.apps.example.com';
const NAME_ENDS = Buffer.from(RECORDED).indexOf(NAME) + NAME.length;

describe('the server name of a connection', () => {
  it('is read from a recorded ClientHello', () => {
    expect(readServerName(RECORDED)).toEqual({ kind: 'name', name: NAME });
  });

  it('is not there yet in any shorter beginning', () => {
    for (let length = 0; length < NAME_ENDS; length++)
      expect(readServerName(RECORDED.subarray(0, length)), `${length} bytes`).toMatchObject({ kind: 'more' });
    expect(readServerName(RECORDED.subarray(0, NAME_ENDS)).kind).toBe('name');
  });

  it('is read from a ClientHello in records of any size', () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 4, max: 60 }), { minLength: 1, maxLength: 40 }), (sizes) => {
        expect(readServerName(inRecords(RECORDED.subarray(5), sizes))).toEqual({ kind: 'name', name: NAME });
      }),
    );
  });

  it.each([
    ['APP-8080.Example.COM', 'app-8080.example.com'],
    ['app.example.com.', 'app.example.com'],
  ])('%s is the name %s', (sent, name) => {
    expect(readServerName(hello(sent))).toEqual({ kind: 'name', name });
  });

  it.each([
    ['no name', hello(undefined), 'no server name'],
    ['an IPv4 address', hello('10.0.0.1'), 'an address'],
    ['an IPv6 address', hello('::1'), 'characters'],
    ['a line break', hello('a\nb.example.com'), 'characters'],
    ['bytes beyond ASCII', hello('ä.example.com'), 'characters'],
    ['a name too long', hello(`${'a'.repeat(250)}.com`), 'length'],
    ['an empty name', hello(''), 'length'],
    ['an alert', Buffer.from('15030100020228', 'hex'), 'not TLS'],
    ['SSH', Buffer.from('SSH-2.0-x\r\n'), 'not TLS'],
    ['SSL 2', Buffer.from('802e0100020015', 'hex'), 'not TLS'],
    ['another major version', Buffer.from('1602010005', 'hex'), 'not TLS'],
    ['a ServerHello', Buffer.from('160301000402000000', 'hex'), 'not a ClientHello'],
    ['an empty record', Buffer.from('1603010000', 'hex'), 'empty'],
    ['a record too long', Buffer.from('1603014001', 'hex'), 'too long'],
    ['a message too long', Buffer.from('16030100040100ffff', 'hex'), 'too long'],
    [
      'another record within',
      Buffer.concat([inRecords(RECORDED.subarray(5), [20]).subarray(0, 25), Buffer.from([23])]),
      'another kind',
    ],
  ])('refuses %s', (_what, bytes, why) => {
    expect(readServerName(bytes)).toEqual({ kind: 'refused', why: expect.stringContaining(why) });
  });

  it('knows plain HTTP', () => {
    expect(readServerName(Buffer.from('GET / HTTP/1.1\r\n')).kind).toBe('http');
  });

  it('is looked for a few times only, however small the pieces are', () => {
    let [readings, wanted] = [0, 1];
    for (let length = 1; length <= RECORDED.length; length++) {
      if (length < wanted) continue;
      readings += 1;
      const found = readServerName(RECORDED.subarray(0, length));
      if (found.kind !== 'more') break;
      wanted = found.atLeast;
      expect(wanted).toBeGreaterThan(length);
    }
    expect(readings).toBeLessThanOrEqual(3);
    expect(readServerName(inRecords(RECORDED.subarray(5), [1]))).toMatchObject({
      why: expect.stringContaining('too many records'),
    });
  });

  it('waits for no more than a ClientHello may have', () => {
    const endless = inRecords(
      Buffer.concat([Buffer.from('01003ffc', 'hex'), Buffer.alloc(20_000)]),
      [16_384],
    );
    expect(readServerName(endless.subarray(0, MAX_CLIENT_HELLO)).kind).toBe('refused');
  });

  it('says the same or refuses, whatever bytes change, and never throws', () => {
    fc.assert(
      fc.property(fc.nat(RECORDED.length - 1), fc.nat(255), (at, value) => {
        const changed = Uint8Array.from(RECORDED);
        changed[at] = value;
        const { kind } = readServerName(changed);
        expect(['name', 'refused', 'more']).toContain(kind);
      }),
      { numRuns: 2_000 },
    );
    fc.assert(fc.property(fc.uint8Array({ maxLength: 600 }), (bytes) => void readServerName(bytes)));
  });

  it("is read from what Node's own client sends", async () => {
    const server = createServer().listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as { port: number };
    const client = connect({ port, host: '127.0.0.1', servername: 'app-443s.example.com' });
    client.on('error', () => undefined);
    const [socket] = (await once(server, 'connection')) as [Socket];
    const [bytes] = (await once(socket, 'data')) as [Buffer];
    expect(readServerName(bytes)).toEqual({ kind: 'name', name: 'app-443s.example.com' });
    client.destroy();
    server.close();
  });
});

function inRecords(message: Uint8Array, sizes: readonly number[]): Buffer {
  const records: Uint8Array[] = [];
  let offset = 0;
  for (let i = 0; offset < message.length; i++) {
    const part = message.subarray(offset, offset + sizes[i % sizes.length]!);
    records.push(Buffer.from([22, 3, 1, part.length >> 8, part.length & 255]), part);
    offset += part.length;
  }
  return Buffer.concat(records);
}

function hello(name: string | undefined): Buffer {
  const bytes = Buffer.from(name ?? '', 'utf8');
  const entry = Buffer.concat([Buffer.from([0]), u16(bytes.length), bytes]);
  const list = Buffer.concat([u16(entry.length), entry]);
  const extension = name === undefined ? Buffer.alloc(0) : Buffer.concat([u16(0), u16(list.length), list]);
  const body = Buffer.concat([
    Buffer.from('0303', 'hex'),
    Buffer.alloc(32),
    Buffer.from([0]),
    u16(2),
    Buffer.from('1301', 'hex'),
    Buffer.from([1, 0]),
    u16(extension.length),
    extension,
  ]);
  return inRecords(Buffer.concat([Buffer.from([1, 0, body.length >> 8, body.length & 255]), body]), [16_384]);
}

function u16(value: number): Buffer {
  return Buffer.from([value >> 8, value & 255]);
}
