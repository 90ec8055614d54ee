import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { decodeMsgpack, encodeMsgpack } from './msgpack.ts';
import { checkMsgpackDepth } from './msgpack-depth.ts';

const nested = (depth: number): unknown => (depth === 0 ? 1 : [nested(depth - 1)]);

describe('depth of MessagePack', () => {
  it('counts maps and arrays, not items', () => {
    checkMsgpackDepth(encodeMsgpack(nested(3)), 3);
    expect(() => checkMsgpackDepth(encodeMsgpack(nested(4)), 3)).toThrow('deeper than 3');
    checkMsgpackDepth(encodeMsgpack({ a: [1, 2, 3], b: Array.from({ length: 100_000 }, () => [1]) }), 3);
    checkMsgpackDepth(
      encodeMsgpack([[], {}, [[]], 'text', new Uint8Array(300), 1.5, -1, null, 2n ** 40n]),
      3,
    );
  });

  it('refuses megabytes of nesting in no time', () => {
    const bytes = new Uint8Array(10_000_000).fill(0x91);
    expect(() => decodeMsgpack(bytes, { maxBytes: bytes.length })).toThrow('deeper than 32');
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
        checkMsgpackDepth(bytes, 32);
        checkMsgpackDepth(bytes.subarray(0, cut), 32);
      }),
    );
  });
});
