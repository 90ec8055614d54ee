import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { readProxyHeader, writeProxyHeader } from './proxy-header.ts';

const V2 = Buffer.from('0d0a0d0a000d0a515549540a2111000c01020304050607082b6756ce', 'hex');
const V1 = Buffer.from('PROXY TCP4 1.2.3.4 5.6.7.8 11111 22222\r\n');
const ADDRESSES = {
  source: { address: '1.2.3.4', port: 11_111 },
  destination: { address: '5.6.7.8', port: 22_222 },
};

describe('a PROXY header', () => {
  it.each([
    ['version 1', V1, 1],
    ['version 2', V2, 2],
  ] as const)('of %s is read and written', (_name, bytes, version) => {
    const connection = { version, ...ADDRESSES };
    const more = Buffer.concat([bytes, Buffer.from('rest')]);
    expect(readProxyHeader(more)).toEqual({ kind: 'header', length: bytes.length, connection });
    expect(writeProxyHeader(connection)).toEqual(bytes);
    for (let length = 0; length < bytes.length; length++)
      expect(readProxyHeader(bytes.subarray(0, length)), `${length} bytes`).toMatchObject({ kind: 'more' });
  });

  it('keeps the addresses, of whatever family', () => {
    const port = fc.nat(65_535);
    const pair = fc.oneof(
      fc.tuple(fc.ipV4(), fc.ipV4()),
      fc.tuple(fc.ipV6(), fc.ipV6()).map(([a, b]) => [canonical(a), canonical(b)] as [string, string]),
    );
    fc.assert(
      fc.property(fc.constantFrom(1 as const, 2 as const), pair, port, port, (version, [from, to], a, b) => {
        const connection = {
          version,
          source: { address: from, port: a },
          destination: { address: to, port: b },
        };
        expect(readProxyHeader(writeProxyHeader(connection))).toMatchObject({ kind: 'header', connection });
      }),
    );
  });

  it('may name no addresses', () => {
    for (const version of [1, 2] as const)
      expect(readProxyHeader(writeProxyHeader({ version }))).toMatchObject({ connection: { version } });
    const local = Buffer.from(V2);
    local[12] = 0x20;
    expect(readProxyHeader(local)).toEqual({ kind: 'header', length: V2.length, connection: { version: 2 } });
  });

  it.each([
    ['TLS', Buffer.from('1603010200', 'hex')],
    ['a line without end', Buffer.from(`PROXY TCP4 ${'1'.repeat(200)}`)],
    ['a name instead of an address', Buffer.from('PROXY TCP4 localhost 5.6.7.8 1 2\r\n')],
    ['an address of another family', Buffer.from('PROXY TCP6 1.2.3.4 5.6.7.8 1 2\r\n')],
    ['an address with a zone', Buffer.from('PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n')],
    ['a port too large', Buffer.from('PROXY TCP4 1.2.3.4 5.6.7.8 1 70000\r\n')],
    ['a version 3', Buffer.concat([V2.subarray(0, 12), Buffer.from('3111000c', 'hex'), V2.subarray(16)])],
    ['addresses cut short', Buffer.concat([V2.subarray(0, 14), Buffer.from('000401020304', 'hex')])],
    ['a header of 60 KB', Buffer.concat([V2.subarray(0, 14), Buffer.from('f000', 'hex')])],
  ])('is not %s', (_what, bytes) => {
    expect(readProxyHeader(bytes).kind).toBe('refused');
  });

  it('never throws, whatever comes', () => {
    fc.assert(
      fc.property(
        fc.constantFrom(V1, V2),
        fc.uint8Array({ maxLength: 60 }),
        fc.nat(40),
        (start, bytes, keep) => {
          readProxyHeader(Buffer.concat([start.subarray(0, keep), bytes]));
        },
      ),
    );
  });
});

function canonical(address: string): string {
  return new URL(`http://[${address}]`).hostname.slice(1, -1);
}
