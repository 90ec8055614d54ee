import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { EncodingError } from './errors.ts';
import { fromHex } from './hex.ts';
import { decodeMsgpack, encodeMsgpack } from './msgpack.ts';
import { checkMsgpackShape } from './msgpack-shape.ts';

const LARGE = { maxDepth: 32, maxValues: 262_144, maxKeys: 64 };
const nested = (depth: number): unknown => (depth === 0 ? 1 : [nested(depth - 1)]);

describe('shape of MessagePack', () => {
  it('counts maps and arrays, not items', () => {
    const flat = { ...LARGE, maxDepth: 3 };
    checkMsgpackShape(encodeMsgpack(nested(3)), flat);
    expect(() => checkMsgpackShape(encodeMsgpack(nested(4)), flat)).toThrow('deeper than 3');
    checkMsgpackShape(encodeMsgpack({ a: [1, 2, 3], b: Array.from({ length: 100_000 }, () => [1]) }), flat);
    checkMsgpackShape(
      encodeMsgpack([[], {}, [[]], 'text', new Uint8Array(300), 1.5, -1, null, 2n ** 40n]),
      flat,
    );
  });

  it('refuses megabytes of nesting in no time', () => {
    const bytes = new Uint8Array(10_000_000).fill(0x91);
    expect(() => decodeMsgpack(bytes, { maxBytes: bytes.length })).toThrow('deeper than 32');
  });

  it('refuses megabytes of empty values in no time', () => {
    for (const empty of [0x80, 0x90, 0xa0, 0xc0]) {
      const bytes = new Uint8Array(9_000_000).fill(empty);
      bytes.set([0xdd, 0x00, 0x80, 0x00, 0x00]);
      expect(() => decodeMsgpack(bytes, { maxBytes: bytes.length })).toThrow('too many values');
    }
  });

  it('refuses a map with more keys than a schema has, before it looks at one of them', () => {
    const keys = (count: number) => Object.fromEntries(Array.from({ length: count }, (_, i) => [`k${i}`, i]));
    checkMsgpackShape(encodeMsgpack(keys(64)), LARGE);
    expect(() => checkMsgpackShape(encodeMsgpack(keys(65)), LARGE)).toThrow('too many keys: 65');
    const announced = Uint8Array.of(0xdf, 0xff, 0xff, 0xff, 0xff);
    expect(() => checkMsgpackShape(announced, LARGE)).toThrow('too many keys');
    expect(() => checkMsgpackShape(Uint8Array.of(0x91, 0xc7), LARGE)).toThrow('type c7');
  });

  it.each([
    ['82a16101a16102', 'one after the other'],
    ['82a16101d9016102', 'with another header'],
    ['83a16181a16201a16301a16102', 'around a map inside'],
    ['91de0002a16101a16102', 'inside an array'],
  ])('refuses a key twice: %s, %s', (hex) => {
    expect(() => checkMsgpackShape(fromHex(hex), LARGE)).toThrow('key twice');
  });

  it('takes equal keys of different maps', () => {
    checkMsgpackShape(encodeMsgpack({ a: { a: 'a' }, b: [{ a: 1 }, { a: 1 }] }), LARGE);
  });

  it('agrees with the decoder on what ends where', () => {
    const value = fc.anything({
      maxDepth: 4,
      withBigInt: false,
      withDate: false,
      withMap: false,
      withSet: false,
    });
    fc.assert(
      fc.property(value, fc.nat(40), (item, cut) => {
        let bytes: Uint8Array;
        try {
          bytes = encodeMsgpack(item);
        } catch {
          return;
        }
        checkMsgpackShape(bytes, LARGE);
        const shorter = bytes.subarray(0, cut);
        if (cut < bytes.length) expect(() => checkMsgpackShape(shorter, LARGE)).toThrow(EncodingError);
      }),
    );
  });
});
