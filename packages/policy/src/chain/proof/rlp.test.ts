/** RLP against the vectors of the yellow paper's tests and against another implementation. */
import { fromHex, toHex, utf8 } from '@dstack-cloud/encoding';
import { RLP } from '@ethereumjs/rlp';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { encodeRlpList, encodeRlpText, type RlpItem, readRlp, rlpInteger, rlpItems, rlpText } from './rlp.ts';

type Nested = Uint8Array | Nested[];

const encode = (value: Nested): Uint8Array =>
  Array.isArray(value) ? encodeRlpList(value.map(encode)) : encodeRlpText(value);
const decode = (item: RlpItem): Nested => (item.isList ? rlpItems(item, 64).map(decode) : item.payload);

const nested = fc.letrec<{ value: Nested; list: Nested[]; text: Uint8Array }>((tie) => ({
  value: fc.oneof({ depthSize: 'small' }, tie('text'), tie('list')),
  list: fc.array(tie('value'), { maxLength: 8 }),
  text: fc.oneof(
    fc.uint8Array({ maxLength: 4 }),
    fc.uint8Array({ minLength: 54, maxLength: 58 }),
    fc.uint8Array({ minLength: 254, maxLength: 300 }),
  ),
})).value;

describe('RLP', () => {
  test.each<[string, Nested]>([
    ['83646f67', utf8('dog')],
    ['c88363617483646f67', [utf8('cat'), utf8('dog')]],
    ['80', new Uint8Array()],
    ['c0', []],
    ['00', Uint8Array.of(0)],
    ['0f', Uint8Array.of(15)],
    ['820400', Uint8Array.of(4, 0)],
    ['c7c0c1c0c3c0c1c0', [[], [[]], [[], [[]]]]],
    [
      'b8384c6f72656d20697073756d20646f6c6f722073697420616d65742c20636f6e7365637465747572206164697069736963696e6720656c6974',
      utf8('Lorem ipsum dolor sit amet, consectetur adipisicing elit'),
    ],
  ])('%s', (hex, value) => {
    expect(toHex(encode(value))).toBe(hex);
    expect(decode(readRlp(fromHex(hex)))).toEqual(value);
  });

  test('is what another implementation writes and reads', () => {
    fc.assert(
      fc.property(nested, (value) => {
        const bytes = encode(value);
        expect(toHex(bytes)).toBe(toHex(RLP.encode(value)));
        expect(decode(readRlp(bytes))).toEqual(value);
      }),
    );
  });

  test('what can be read has exactly one encoding', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 1, maxLength: 70 }), (bytes) => {
        let value: Nested;
        try {
          value = decode(readRlp(bytes));
        } catch (error) {
          expect(error).toMatchObject({ name: 'PolicyError', code: 'chain-proof' });
          return;
        }
        expect(toHex(encode(value))).toBe(toHex(bytes));
      }),
      { numRuns: 2_000 },
    );
  });

  test.each([
    ['', 'an item is missing'],
    ['8000', 'bytes are left over'],
    ['8100', 'a single byte has a prefix'],
    ['83646f', 'an item is cut off'],
    ['b80102', 'a short item has a long prefix'],
    ['b90038', 'a length has a leading zero'],
    ['b9', 'a length is cut off'],
    ['b8', 'a length is cut off'],
    ['ba010000', 'an item is too long'],
    ['bfffffffffffffffff', 'an item is too long'],
    ['f80102', 'a short item has a long prefix'],
  ])('refuses %s: %s', (hex, why) => {
    expect(() => readRlp(fromHex(hex))).toThrow(why);
  });

  test('refuses lists that are not what was asked for', () => {
    expect(() => rlpItems(readRlp(fromHex('c20102')), 1)).toThrow('more than 1 items');
    expect(() => rlpItems(readRlp(fromHex('80')), 1)).toThrow('a list was expected');
    expect(() => rlpText(readRlp(fromHex('c0')))).toThrow('a string was expected');
    expect(() => rlpText(readRlp(fromHex('80')), 1)).toThrow('1 bytes were expected');
    expect(() => rlpItems(readRlp(fromHex('c281ff')), 2)).not.toThrow();
    expect(() => rlpItems(readRlp(fromHex('c182')), 2)).toThrow('an item is cut off');
  });

  test('integers are as short as they can be', () => {
    expect(rlpInteger(readRlp(fromHex('80')))).toBe(0n);
    expect(rlpInteger(readRlp(fromHex('820400')))).toBe(1024n);
    expect(() => rlpInteger(readRlp(fromHex('00')))).toThrow('leading zero');
    expect(() => rlpInteger(readRlp(fromHex('820001')))).toThrow('leading zero');
    expect(() => rlpInteger(readRlp(encodeRlpText(new Uint8Array(33).fill(1))))).toThrow('longer than 32');
  });
});
