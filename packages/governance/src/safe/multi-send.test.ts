import fc from 'fast-check';
import { type Address, type Hex, isAddressEqual, size } from 'viem';
import { describe, expect, test } from 'vitest';
import { GovernanceError } from '../errors.ts';
import { decodeMultiSend, encodeMultiSend, unpackBatch } from './multi-send.ts';

const hex = (length: number): fc.Arbitrary<Hex> =>
  fc
    .uint8Array({ minLength: length, maxLength: length })
    .map((bytes): Hex => `0x${Buffer.from(bytes).toString('hex')}`);
const calls = fc.array(
  fc.record({
    to: hex(20) as fc.Arbitrary<Address>,
    value: fc.bigInt({ min: 0n, max: 2n ** 256n - 1n }),
    data: fc.integer({ min: 0, max: 70 }).chain(hex),
  }),
  { minLength: 1, maxLength: 6 },
);

describe('batches of a Safe', () => {
  test('come back as they were packed, in their order', () => {
    fc.assert(
      fc.property(calls, (given) => {
        const found = decodeMultiSend(encodeMultiSend(given));
        expect(found.map(({ value, data, operation }) => ({ value, data, operation }))).toEqual(
          given.map(({ value, data }) => ({ value, data, operation: 0 })),
        );
        for (const [index, { to }] of found.entries())
          expect(isAddressEqual(to, given[index]!.to)).toBe(true);
      }),
    );
  });

  test('that are cut, or go on behind their end, are refused', () => {
    fc.assert(
      fc.property(calls, fc.nat(), (given, at) => {
        const packed = `0x${encodeMultiSend(given).slice(2 + 8 + 128)}` as const;
        const whole = given.reduce((sum, { data }) => sum + 85 + size(data), 0);
        const ends = new Set<number>();
        given.reduce((sum, { data }) => {
          ends.add(sum + 85 + size(data));
          return sum + 85 + size(data);
        }, 0);
        const cut = 1 + (at % (whole + 20));
        if (ends.has(cut)) return;
        expect(() =>
          unpackBatch(packed.padEnd(2 + 2 * (whole + 20), '0').slice(0, 2 + 2 * cut) as Hex),
        ).toThrow(GovernanceError);
      }),
    );
  });

  test('without calls are none', () => {
    expect(() => encodeMultiSend([])).toThrow('1 to 256 calls');
  });
});
