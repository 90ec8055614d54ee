import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { EncodingError } from '../errors.ts';
import { fromHex, toHex } from '../hex.ts';
import { DerReader, readDer } from './der-reader.ts';
import { derTag } from './der-tag.ts';
import { derTime } from './der-time.ts';
import { derBitString, derBoolean, derInteger, derOctetString, derOid, derText } from './der-values.ts';
import { der } from './der-writer.ts';
import { ecdsaDerToRaw, ecdsaRawToDer } from './ecdsa.ts';

const refused = (hex: string, read: (bytes: Uint8Array) => unknown = readDer): void => {
  expect(() => read(fromHex(hex)), hex).toThrow(EncodingError);
};

describe('DER elements', () => {
  it('round trip at every length form', () => {
    for (const length of [0, 1, 127, 128, 255, 256, 65_535, 65_536, 70_000]) {
      const contents = new Uint8Array(length).fill(0xa5);
      const element = readDer(der.octetString(contents));
      expect(derOctetString(element)).toEqual(contents);
      expect(element.raw.length).toBe(
        length + (length < 128 ? 2 : length < 256 ? 3 : length < 65_536 ? 4 : 5),
      );
    }
  });

  it.each([
    ['nothing', ''],
    ['no length', '30'],
    ['contents cut short', '0402aa'],
    ['trailing byte', '040000'],
    ['indefinite length', '30800000'],
    ['long form for a short length', '04810100'],
    ['leading zero in the length', `04820080${'00'.repeat(128)}`],
    ['five length octets', '04850000000001aa'],
    ['four length octets beyond the input', '0484ffffffff'],
    ['high tag number', '1f8101aa00'],
  ])('%s is refused', (_, hex) => refused(hex));

  it('the reader tells tags apart and wants to be finished', () => {
    const reader = new DerReader(fromHex('0201010500'));
    expect(reader.nextTag).toBe(derTag.integer);
    expect(reader.optional(derTag.null)).toBeUndefined();
    expect(derInteger(reader.next(derTag.integer))).toBe(1n);
    expect(() => reader.finish()).toThrow(EncodingError);
    expect(() => reader.next(derTag.integer)).toThrow(EncodingError);
    expect(reader.optional(derTag.null)?.contents.length).toBe(0);
    reader.finish();
    expect(() => reader.next()).toThrow(EncodingError);
  });

  it('any input gives an element or an EncodingError', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 64 }), (bytes) => {
        try {
          expect(readDer(bytes).raw).toEqual(bytes);
        } catch (error) {
          expect(error).toBeInstanceOf(EncodingError);
        }
      }),
    );
  });
});

describe('DER values', () => {
  it('integers round trip', () => {
    fc.assert(
      fc.property(fc.bigInt({ min: 0n, max: 1n << 200n }), (value) => {
        expect(derInteger(readDer(der.integer(value)))).toBe(value);
      }),
    );
    expect(derInteger(readDer(fromHex('0201ff')))).toBe(-1n);
    expect(derInteger(readDer(fromHex('020200ff')))).toBe(255n);
    expect(toHex(der.integer(fromHex('0000ff')))).toBe('020200ff');
    expect(toHex(der.integer(new Uint8Array()))).toBe('020100');
    expect(() => der.integer(-1)).toThrow(EncodingError);
    for (const hex of ['0200', '02020001', '0202ff80', '040101']) refused(hex, (b) => derInteger(readDer(b)));
  });

  it('object identifiers round trip', () => {
    const arcs = fc.array(fc.bigInt({ min: 0n, max: 1n << 40n }), { maxLength: 4 });
    fc.assert(
      fc.property(fc.constantFrom('0.39', '1.3', '2.5', '2.999', '1.2.840'), arcs, (root, rest) => {
        const dotted = [root, ...rest].join('.');
        expect(derOid(readDer(der.oid(dotted)))).toBe(dotted);
      }),
    );
    expect(toHex(der.oid('1.3.6.1.4.1.62397.1.8'))).toBe('060a2b0601040183e73d0108');
    for (const text of ['', '1', '3.1', '1.40', '1.2.', '1.02', 'a.b'])
      expect(() => der.oid(text)).toThrow(EncodingError);
    for (const hex of ['0600', '060180', '06028001', '06032a8001']) refused(hex, (b) => derOid(readDer(b)));
  });

  it('bit strings', () => {
    expect(derBitString(readDer(der.bitString(fromHex('86'), 1)))).toEqual({
      bytes: fromHex('86'),
      unusedBits: 1,
    });
    for (const hex of ['0300', '030108', '030101', '03020187', '030208ff'])
      refused(hex, (b) => derBitString(readDer(b)));
  });

  it('booleans are 00 or ff', () => {
    expect(derBoolean(readDer(der.boolean(true)))).toBe(true);
    expect(derBoolean(readDer(der.boolean(false)))).toBe(false);
    for (const hex of ['0100', '010101', '01020000']) refused(hex, (b) => derBoolean(readDer(b)));
  });

  it('texts', () => {
    expect(derText(readDer(der.utf8String('Zoë')))).toBe('Zoë');
    expect(derText(readDer(der.printableString('abc')))).toBe('abc');
    expect(derText(readDer(fromHex('1e0400e900e9')))).toBe('éé');
    expect(derText(readDer(fromHex('1401e9')))).toBe('é');
    expect(derText(readDer(der.raw(derTag.t61String, new Uint8Array(1 << 20).fill(0x61)))).length).toBe(
      1 << 20,
    );
    for (const hex of ['0c01ff', '1301e9', '1e01aa', '040161']) refused(hex, (b) => derText(readDer(b)));
    for (const text of ['é', 'a\0b', '\n']) expect(() => der.ia5String(text)).toThrow(EncodingError);
  });

  it('times change form in 2050', () => {
    fc.assert(
      fc.property(fc.integer({ min: -631_152_000, max: 253_402_300_799 }), (seconds) => {
        const element = readDer(der.time(seconds));
        expect(element.tag).toBe(seconds < 2_524_608_000 ? derTag.utcTime : derTag.generalizedTime);
        expect(derTime(element)).toBe(seconds);
      }),
    );
    expect(toHex(der.time(157_766_400))).toBe(`170d${toHex(new TextEncoder().encode('750101000000Z'))}`);
    for (const seconds of [253_402_300_800, -631_152_001, 1.5, Number.NaN]) {
      expect(() => der.time(seconds)).toThrow(EncodingError);
    }
  });

  it.each([
    '7501010000Z',
    '750101000000+0100',
    '750230000000Z',
    '751301000000Z',
    '750101240000Z',
    '750101000060Z',
  ])('time %s is refused', (text) => {
    expect(() => derTime(readDer(der.raw(derTag.utcTime, new TextEncoder().encode(text))))).toThrow(
      EncodingError,
    );
  });
});

describe('ECDSA signatures', () => {
  it('round trip for both curves', () => {
    for (const size of [32, 48]) {
      fc.assert(
        fc.property(fc.uint8Array({ minLength: 2 * size, maxLength: 2 * size }), (raw) => {
          fc.pre(raw.subarray(0, size).some((b) => b !== 0) && raw.subarray(size).some((b) => b !== 0));
          expect(ecdsaDerToRaw(ecdsaRawToDer(raw), size)).toEqual(raw);
        }),
      );
    }
  });

  it.each([
    ['r is zero', '3006020100020101'],
    ['r is negative', '30060201ff020101'],
    ['not minimal', '300702020001020101'],
    ['one number', '3003020101'],
    ['three numbers', '3009020101020101020101'],
    ['trailing byte', '300602010102010100'],
    ['another type', '3106020101020101'],
    ['too large', `3026022101${'00'.repeat(32)}020101`],
  ])('%s is refused', (_, hex) => refused(hex, (bytes) => ecdsaDerToRaw(bytes, 32)));

  it('raw signatures have an even length', () => {
    for (const length of [0, 63]) expect(() => ecdsaRawToDer(new Uint8Array(length))).toThrow(EncodingError);
  });
});
