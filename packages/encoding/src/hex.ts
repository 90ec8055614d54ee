import { EncodingError } from './errors.ts';

const DIGITS: Uint8Array = new TextEncoder().encode('0123456789abcdef');
const ascii = new TextDecoder();

/** Lower-case hex without a prefix. */
export function toHex(bytes: Uint8Array): string {
  // Decoded in one piece: a text that grows by two digits at a time is, in V8, a tree of as many nodes until it is read.
  const digits = new Uint8Array(2 * bytes.length);
  for (let i = 0; i < bytes.length; i++) {
    const byte = bytes[i]!;
    digits[2 * i] = DIGITS[byte >> 4]!;
    digits[2 * i + 1] = DIGITS[byte & 15]!;
  }
  return ascii.decode(digits);
}

export interface FromHexOptions {
  /** Exact number of bytes wanted. */
  readonly length?: number;
  /** Whether one leading `0x` or `0X` is skipped; refused by default. */
  readonly prefix?: 'allow' | 'refuse';
}

/** Reads hex in either case. @throws EncodingError for odd lengths, other characters, or another length */
export function fromHex(text: string, options: FromHexOptions = {}): Uint8Array {
  const start = options.prefix === 'allow' && /^0[xX]/.test(text) ? 2 : 0;
  const digits = text.length - start;
  if (digits % 2 !== 0) throw new EncodingError('invalid-value', 'Hex text has an odd number of digits');
  const out = new Uint8Array(digits / 2);
  if (options.length !== undefined && out.length !== options.length) {
    throw new EncodingError('invalid-value', `Expected ${options.length} bytes of hex, found ${out.length}`);
  }
  for (let i = 0; i < out.length; i++) {
    const high = digit(text.charCodeAt(start + 2 * i));
    const low = digit(text.charCodeAt(start + 2 * i + 1));
    if (high < 0 || low < 0)
      throw new EncodingError('invalid-value', `No hex digit at position ${start + 2 * i}`);
    out[i] = high * 16 + low;
  }
  return out;
}

function digit(code: number): number {
  if (code >= 0x30 && code <= 0x39) return code - 0x30;
  const lower = code | 0x20;
  if (lower >= 0x61 && lower <= 0x66) return lower - 0x57;
  return -1;
}
