import { fromBase64, fromBase64Url } from './base64.ts';
import { EncodingError } from './errors.ts';
import { fromHex } from './hex.ts';

/** Bytes that were written as text, and how. */
export interface TextBytes {
  readonly encoding: 'hex' | 'base64';
  readonly bytes: Uint8Array;
}

const HEX_DIGITS = /^(0[xX])?[0-9a-fA-F]+$/;
const STANDARD = /^[0-9A-Za-z+/]+={0,2}$/;
const URL_SAFE = /^[0-9A-Za-z_-]+={0,2}$/;

/**
 * Bytes in hex or base64; white space around and between the digits is left out. Each text has one meaning: nothing but
 * hex digits is hex, never base64, so that hex that lost a digit is refused rather than read as something else; all
 * else is base64, standard or URL-safe, with or without padding, but never of both alphabets, and without spare bits.
 * @throws EncodingError for text that is neither
 */
export function bytesFromText(text: string): TextBytes {
  const packed = text.replace(/[ \t\r\n]+/g, '');
  if (HEX_DIGITS.test(packed)) return { encoding: 'hex', bytes: fromHex(packed, { prefix: 'allow' }) };
  const digits = packed.replace(/=+$/, '');
  // RFC 4648 section 3.2: padding is there to the last character, or not at all.
  const isWhole = packed.length === digits.length || packed.length % 4 === 0;
  if (isWhole && STANDARD.test(packed)) {
    return { encoding: 'base64', bytes: fromBase64(digits.padEnd(Math.ceil(digits.length / 4) * 4, '=')) };
  }
  if (isWhole && URL_SAFE.test(packed)) return { encoding: 'base64', bytes: fromBase64Url(digits) };
  throw new EncodingError('invalid-value', 'Text is neither hex nor base64');
}
