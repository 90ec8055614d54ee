import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { toBase64, toBase64Url } from './base64.ts';
import { bytesFromText } from './bytes-from-text.ts';
import { EncodingError } from './errors.ts';
import { toHex } from './hex.ts';

const unpadded = (bytes: Uint8Array): string => toBase64(bytes).replace(/=+$/, '');
const isHex = (text: string): boolean => /^[0-9a-fA-F]+$/.test(text);

describe('bytes in text', () => {
  it('are read in each usual form, white space aside', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 1, maxLength: 200 }), (bytes) => {
        const hex = toHex(bytes);
        for (const text of [hex, hex.toUpperCase(), `0x${hex}`, hex.replace(/../g, '$& ')]) {
          expect(bytesFromText(text)).toEqual({ encoding: 'hex', bytes });
        }
        for (const text of [toBase64(bytes), unpadded(bytes), toBase64Url(bytes)]) {
          if (isHex(text)) continue;
          expect(bytesFromText(text)).toEqual({ encoding: 'base64', bytes });
          expect(bytesFromText(`\n${text.replace(/.{8}/g, '$&\r\n')} `)).toEqual({
            encoding: 'base64',
            bytes,
          });
        }
      }),
    );
  });

  it('has one meaning: hex digits alone are hex or an error', () => {
    fc.assert(
      fc.property(fc.stringMatching(/^[0-9a-fA-F]{1,64}$/), (text) => {
        if (text.length % 2 === 0) expect(bytesFromText(text).encoding).toBe('hex');
        else expect(() => bytesFromText(text)).toThrow(EncodingError);
      }),
    );
  });

  it.each([
    ['nothing', ''],
    ['blanks', ' \n'],
    ['a prefix alone', '0x'],
    ['both alphabets', 'ab+_'],
    ['padding in the middle', 'YQ==YQ=='],
    ['half of the padding', 'YQ='],
    ['too much padding', 'YWI==='],
    ['padding where none belongs', 'YWJj='],
    ['a length that ends inside a byte', 'YWJjZ'],
    ['spare bits', 'YR=='],
    ['spare bits without padding', 'YR'],
    ['another character', 'YW*j'],
    ['a letter that looks like one', 'YWJ\u0441'],
    ['JSON', '{}'],
  ])('refuses %s', (_name, text) => {
    expect(() => bytesFromText(text)).toThrow(EncodingError);
  });
});
