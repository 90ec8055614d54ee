import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { fromBase64, fromBase64Url, toBase64, toBase64Url } from './base64.ts';
import { ByteReader } from './byte-reader.ts';
import { ByteWriter } from './byte-writer.ts';
import {
  compareBytes,
  concatBytes,
  equalBytes,
  equalConstantTime,
  isZero,
  padRight,
  utf8,
  utf8Text,
} from './bytes.ts';
import { decodeCbor, encodeCbor } from './cbor.ts';
import { EncodingError } from './errors.ts';
import { fromHex, toHex } from './hex.ts';
import { escapeNonAscii } from './json.ts';
import { decodeMsgpack, encodeMsgpack } from './msgpack.ts';
import { decodePem, decodePemAll, encodePem } from './pem.ts';

const anyBytes = fc.uint8Array({ maxLength: 300 });

describe('bytes', () => {
  it('compare like Buffer', () => {
    fc.assert(
      fc.property(anyBytes, anyBytes, (a, b) => {
        expect(Math.sign(compareBytes(a, b))).toBe(Buffer.compare(a, b));
        expect(equalBytes(a, b)).toBe(Buffer.compare(a, b) === 0);
        expect(equalConstantTime(a, b)).toBe(equalBytes(a, b));
        expect(equalConstantTime(a, a.slice())).toBe(true);
        expect(concatBytes(a, b)).toEqual(new Uint8Array(Buffer.concat([a, b])));
      }),
    );
    expect(equalConstantTime(Uint8Array.of(0), new Uint8Array())).toBe(false);
    expect(equalConstantTime(new Uint8Array(), Uint8Array.of(0))).toBe(false);
  });

  it('zero, padding, text', () => {
    expect([isZero(new Uint8Array(3)), isZero(Uint8Array.of(0, 1))]).toEqual([true, false]);
    expect(padRight(Uint8Array.of(1), 3)).toEqual(Uint8Array.of(1, 0, 0));
    expect(() => padRight(new Uint8Array(4), 3)).toThrow(EncodingError);
    expect(utf8Text(utf8('\ufeffé😀'))).toBe('\ufeffé😀');
    expect(() => utf8Text(Uint8Array.of(0xff))).toThrow(EncodingError);
  });

  it('JSON text becomes ASCII with the same value', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), (text) => {
        const escaped = escapeNonAscii(JSON.stringify(text));
        expect(escaped).toMatch(/^[\x20-\x7e]*$/);
        expect(JSON.parse(escaped)).toBe(text);
      }),
    );
  });
});

describe('hex and base64', () => {
  it('round trip and equal Buffer', () => {
    fc.assert(
      fc.property(anyBytes, (bytes) => {
        expect(toHex(bytes)).toBe(Buffer.from(bytes).toString('hex'));
        expect(fromHex(toHex(bytes))).toEqual(bytes);
        expect(fromHex(`0x${toHex(bytes).toUpperCase()}`, { prefix: 'allow' })).toEqual(bytes);
        expect(toBase64(bytes)).toBe(Buffer.from(bytes).toString('base64'));
        expect(fromBase64(toBase64(bytes))).toEqual(bytes);
        expect(toBase64Url(bytes)).toBe(Buffer.from(bytes).toString('base64url'));
        expect(fromBase64Url(toBase64Url(bytes))).toEqual(bytes);
      }),
    );
  });

  it.each(['0', '0x00', 'zz', '0g', ' 00', '٠٠'])('hex %j is refused', (text) => {
    expect(() => fromHex(text)).toThrow(EncodingError);
  });

  it('hex of another length is refused', () => {
    expect(fromHex('0011', { length: 2 })).toEqual(Uint8Array.of(0, 0x11));
    expect(() => fromHex('0011', { length: 3 })).toThrow(EncodingError);
    expect(() => fromHex('0x0x00', { prefix: 'allow' })).toThrow(EncodingError);
  });

  it.each(['A', 'AA', 'AAA', 'AB==', 'AAB=', 'A===', '====', 'AA =', 'AA-_', 'AAAA====', 'AAA\n'])(
    'base64 %j is refused',
    (text) => {
      expect(() => fromBase64(text)).toThrow(EncodingError);
    },
  );

  it.each(['A', 'AB', 'AA==', 'A+', 'A/'])('base64url %j is refused', (text) => {
    expect(() => fromBase64Url(text)).toThrow(EncodingError);
  });
});

describe('PEM', () => {
  it('round trips with lines of 64 characters', () => {
    fc.assert(
      fc.property(anyBytes, (bytes) => {
        const pem = encodePem('TEST', bytes);
        expect(decodePem(pem, 'TEST')).toEqual(bytes);
        expect(decodePem(pem.replaceAll('\n', '\r\n'), 'TEST')).toEqual(bytes);
        for (const line of pem.split('\n')) expect(line.length).toBeLessThanOrEqual(64);
      }),
    );
  });

  it('finds every block of a label and refuses broken ones', () => {
    const text = `note\n${encodePem('A', Uint8Array.of(1))}${encodePem('B', Uint8Array.of(2))}${encodePem('A', Uint8Array.of(3))}`;
    expect(decodePemAll(text, 'A')).toEqual([Uint8Array.of(1), Uint8Array.of(3)]);
    expect(decodePem(text, 'B')).toEqual(Uint8Array.of(2));
    expect(() => decodePem(text, 'A')).toThrow(EncodingError);
    expect(() => decodePem(text, 'C')).toThrow(EncodingError);
    for (const bad of [
      '-----BEGIN A-----\nAQ==',
      '-----BEGIN A-----\nA!==\n-----END A-----',
      'x'.repeat(1 << 21),
    ]) {
      expect(() => decodePemAll(bad, 'A')).toThrow(EncodingError);
    }
  });
});

describe('byte readers and writers', () => {
  it('round trip', () => {
    const numbers = fc.tuple(
      fc.integer({ min: 0, max: 0xff }),
      fc.integer({ min: 0, max: 0xffff }),
      fc.integer({ min: 0, max: 0xffffffff }),
      fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }),
      anyBytes,
    );
    fc.assert(
      fc.property(numbers, ([a, b, c, d, rest]) => {
        const writer = new ByteWriter()
          .u8(a)
          .u16le(b)
          .u16be(b)
          .u32le(c)
          .u32be(c)
          .u64le(d)
          .u64be(d)
          .bytes(rest);
        const reader = new ByteReader(writer.finish());
        expect([reader.u8(), reader.u16le(), reader.u16be(), reader.u32le(), reader.u32be()]).toEqual([
          a,
          b,
          b,
          c,
          c,
        ]);
        expect([reader.u64le(), reader.u64be(), reader.offset]).toEqual([d, d, 29]);
        expect(reader.rest()).toEqual(rest);
        reader.finish();
        expect(writer.length).toBe(29 + rest.length);
      }),
    );
  });

  it('refuse what does not fit', () => {
    for (const length of [4, -1, 1.5, Number.NaN, Number.POSITIVE_INFINITY]) {
      expect(() => new ByteReader(new Uint8Array(3)).take(length)).toThrow(EncodingError);
    }
    expect(() => new ByteReader(new Uint8Array(3)).finish()).toThrow(EncodingError);
    expect(() => new ByteReader(new Uint8Array(3)).u32be()).toThrow(EncodingError);
    for (const write of [
      (w: ByteWriter) => w.u8(256),
      (w: ByteWriter) => w.u16be(-1),
      (w: ByteWriter) => w.u64le(1n << 64n),
    ]) {
      expect(() => write(new ByteWriter())).toThrow(EncodingError);
    }
  });
});

describe('CBOR', () => {
  it('maps become Map, large integers bigint', () => {
    const value = new Map<unknown, unknown>([
      ['a', 1],
      [4, Uint8Array.of(1, 2)],
      ['list', [true, null, 'é', 18_446_744_073_709_551_615n]],
    ]);
    expect(decodeCbor(encodeCbor(value))).toEqual(value);
    expect(decodeCbor(fromHex('d28301f6a0'))).toEqual([1, null, new Map()]);
  });

  it.each([
    ['trailing byte', '0000'],
    ['nothing', ''],
    ['integer not minimal', '1801'],
    ['length not minimal', '580100'],
    ['duplicate key', 'a2016161016162'],
    ['indefinite array', '9f01ff'],
    ['indefinite bytes', '5f4101ff'],
    ['text that is not UTF-8', '61ff'],
    ['a tag', 'c001'],
    ['array cut short', '8301'],
    ['huge array', '9b000000ffffffffff'],
    ['lone break', 'ff'],
  ])('%s is refused', (_, hex) => {
    expect(() => decodeCbor(fromHex(hex))).toThrow(EncodingError);
  });

  it('indefinite lengths only on request, and never a break in place of a value', () => {
    expect(decodeCbor(fromHex('bf616101ff'), { indefinite: true })).toEqual(new Map([['a', 1]]));
    expect(decodeCbor(fromHex('9f9f01ff02ff'), { indefinite: true })).toEqual([[1], 2]);
    for (const hex of ['bf6161ff', '9f01', '82ff', 'a161ff', '9fffff']) {
      expect(() => decodeCbor(fromHex(hex), { indefinite: true }), hex).toThrow(EncodingError);
    }
  });

  it('nesting is bounded', () => {
    const nested = (depth: number): Uint8Array => fromHex(`${'81'.repeat(depth)}00`);
    expect(decodeCbor(nested(16))).toBeDefined();
    expect(() => decodeCbor(nested(17))).toThrow(/deep/);
    expect(() => decodeCbor(nested(100_000), { maxDepth: 32 })).toThrow(EncodingError);
    const flat = new Uint8Array(1_000_000).fill(0xa0);
    flat.set([0x9a, 0x00, 0x0f, 0x00, 0x00]);
    expect(() => decodeCbor(flat)).toThrow('too many items');
    expect(() => decodeCbor(fromHex(`${'d2'.repeat(100_000)}00`))).toThrow(EncodingError);
  });

  it('any input gives a value or an EncodingError', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 40 }), fc.boolean(), (bytes, indefinite) => {
        try {
          decodeCbor(bytes, { indefinite });
        } catch (error) {
          expect(error).toBeInstanceOf(EncodingError);
        }
      }),
      { numRuns: 1000 },
    );
  });
});

describe('MessagePack', () => {
  it('round trips within its bound', () => {
    const value = [Uint8Array.of(1), 'x', { a: 1, b: null }, 1n << 40n];
    const encoded = encodeMsgpack(value);
    expect(decodeMsgpack(encoded, { maxBytes: 100 })).toEqual(value);
    expect(() => decodeMsgpack(encoded, { maxBytes: encoded.length - 1 })).toThrow(EncodingError);
  });

  it.each([
    ['trailing byte', '0000'],
    ['nothing', ''],
    ['cut short', '9201'],
    ['huge array', 'ddffffffff'],
    ['huge map', 'dfffffffff'],
    ['extension', 'd40100'],
    ['never used', 'c1'],
    ['prototype key', '81a95f5f70726f746f5f5f01'],
  ])('%s is refused', (_, hex) => {
    expect(() => decodeMsgpack(fromHex(hex), { maxBytes: 1000 })).toThrow(EncodingError);
  });
});
