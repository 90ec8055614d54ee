import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { AppError, JsonFloat, parseStrictJson } from './index.ts';

describe('parseStrictJson', () => {
  it('agrees with JSON.parse on everything that JSON.stringify writes', () => {
    const plain = (value: unknown): unknown =>
      value instanceof JsonFloat
        ? value.value
        : typeof value === 'bigint'
          ? Number(value)
          : Array.isArray(value)
            ? value.map(plain)
            : value !== null && typeof value === 'object'
              ? Object.fromEntries(Object.entries(value).map(([key, item]) => [key, plain(item)]))
              : value;
    fc.assert(
      fc.property(fc.json({ stringUnit: 'grapheme' }), (text) => {
        expect(plain(parseStrictJson(text))).toEqual(JSON.parse(text));
      }),
    );
  });

  it('throws nothing but AppError, and accepts nothing that JSON.parse refuses', () => {
    fc.assert(
      fc.property(
        fc.string({ unit: fc.constantFrom(...'{}[]",:\\u0123eE.-+tfn \n'), maxLength: 30 }),
        (text) => {
          try {
            parseStrictJson(text);
          } catch (error) {
            expect(error).toBeInstanceOf(AppError);
            return;
          }
          expect(() => JSON.parse(text)).not.toThrow();
        },
      ),
    );
  });

  it.each([
    '{"a":1,"a":1}',
    '\ufeff1',
    '1 2',
    '01',
    '"\\ud800"',
    '"\t"',
    "'a'",
    '[1,]',
    '{"a"}',
    '"\\',
    '"a',
    '',
  ])('refuses %j', (text) => expect(() => parseStrictJson(text)).toThrow(AppError));

  it('tells where', () => {
    expect(() => parseStrictJson('{\n  "a": bad}')).toThrow('Expected a value at line 2 column 8');
  });

  it('stops at more values than it may read', () => {
    expect(parseStrictJson('{"a":[1,2]}', 4)).toEqual({ a: [1, 2] });
    expect(() => parseStrictJson('{"a":[1,2,3]}', 4)).toThrow('More than 4 values at line 1 column 11');
  });

  it('keeps 2.0 apart from 2 and large integers exact', () => {
    expect(parseStrictJson('[2.0,2,18446744073709551615]')).toEqual([new JsonFloat(2), 2, 2n ** 64n - 1n]);
  });
});
