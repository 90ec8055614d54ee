import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { EncodingError } from '../errors.ts';
import { fromHex, toHex } from '../hex.ts';
import { ScaleReader } from './scale-reader.ts';
import { ScaleWriter } from './scale-writer.ts';

describe('SCALE', () => {
  it.each([
    [0, '00'],
    [1, '04'],
    [63, 'fc'],
    [64, '0101'],
    [16_383, 'fdff'],
    [16_384, '02000100'],
    [1_073_741_823, 'feffffff'],
    [1_073_741_824, '0300000040'],
    [4_294_967_296, '070000000001'],
  ])('compact %i is %s', (value, hex) => {
    expect(toHex(new ScaleWriter().compact(value).finish())).toBe(hex);
    expect(new ScaleReader(fromHex(hex)).compact()).toBe(value);
  });

  it.each([
    '0100',
    'fd00',
    '02000000',
    'feff0000',
    '03ffffff3f',
    '0700000000 00'.replace(' ', ''),
    '0700000080 00'.replace(' ', ''),
  ])('compact %s is not minimal', (hex) => {
    expect(() => new ScaleReader(fromHex(hex)).compact()).toThrow(EncodingError);
  });

  it('compact integers beyond 64 bits, and beyond 53 bits as numbers, are refused', () => {
    expect(() => new ScaleReader(fromHex(`17${'00'.repeat(8)}01`)).compactBig()).toThrow(EncodingError);
    const max = new ScaleWriter().compact((1n << 64n) - 1n).finish();
    expect(new ScaleReader(max).compactBig()).toBe((1n << 64n) - 1n);
    expect(() => new ScaleReader(max).compact()).toThrow(EncodingError);
    expect(() => new ScaleWriter().compact(1n << 64n)).toThrow(EncodingError);
    expect(() => new ScaleWriter().compact(-1)).toThrow(EncodingError);
  });

  it('any compact integer round trips', () => {
    fc.assert(
      fc.property(fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }), (value) => {
        const reader = new ScaleReader(new ScaleWriter().compact(value).finish());
        expect(reader.compactBig()).toBe(value);
        reader.finish();
      }),
    );
  });

  it('records round trip, also from a view inside a larger buffer', () => {
    const record = fc.tuple(
      fc.string(),
      fc.uint8Array(),
      fc.boolean(),
      fc.option(fc.bigInt({ min: 0n, max: 99n }), { nil: undefined }),
      fc.array(fc.string(), { maxLength: 5 }),
    );
    fc.assert(
      fc.property(record, ([text, bytes, flag, option, items]) => {
        const writer = new ScaleWriter().u8(1).u16(2).u32(3).u64(4n).string(text).bytes(bytes).bool(flag);
        writer.option(option, (value) => writer.u64(value)).vec(items, (item) => writer.string(item));
        const encoded = writer.fixed(Uint8Array.of(9, 9)).finish();
        const padded = new Uint8Array(encoded.length + 10);
        padded.set(encoded, 5);
        const reader = new ScaleReader(padded.subarray(5, 5 + encoded.length));
        expect([reader.u8(), reader.u16(), reader.u32(), reader.u64()]).toEqual([1, 2, 3, 4n]);
        expect(reader.string()).toBe(text);
        expect(reader.bytes()).toEqual(bytes);
        expect(reader.bool()).toBe(flag);
        expect(reader.option(() => reader.u64())).toBe(option);
        expect(reader.vec(() => reader.string(), 5)).toEqual(items);
        expect(reader.fixed(2)).toEqual(Uint8Array.of(9, 9));
        reader.finish();
      }),
    );
  });

  it('limits, bad flags, bad text and trailing bytes are refused', () => {
    const reader = (hex: string): ScaleReader => new ScaleReader(fromHex(hex));
    const attacks: Array<() => unknown> = [
      () => reader('02').bool(),
      () => reader('02').option(() => 1),
      () => reader('04ff').string(),
      () => reader('0c010203').bytes(2),
      () => reader('0c0102').bytes(),
      () => reader('feffffff').bytes(),
      () => reader('feffffff').vec(() => 1, 1000),
      () => reader('00').finish(),
      () => reader('0102').u32(),
    ];
    for (const attack of attacks) expect(attack).toThrow(EncodingError);
  });
});
