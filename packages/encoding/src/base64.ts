import { EncodingError } from './errors.ts';

const STANDARD = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/';
const URL_SAFE = `${STANDARD.slice(0, 62)}-_`;
const STANDARD_VALUES = valuesOf(STANDARD);
const URL_SAFE_VALUES = valuesOf(URL_SAFE);

/** Base64 with padding, RFC 4648 section 4. */
export function toBase64(bytes: Uint8Array): string {
  const text = encode(bytes, STANDARD);
  return text.padEnd(Math.ceil(text.length / 4) * 4, '=');
}

/** Base64url without padding, RFC 4648 section 5. */
export function toBase64Url(bytes: Uint8Array): string {
  return encode(bytes, URL_SAFE);
}

/** Reads padded standard base64; no white space. @throws EncodingError for any other form, spare bits included */
export function fromBase64(text: string): Uint8Array {
  if (text.length % 4 !== 0) throw new EncodingError('invalid-value', 'Base64 length is not a multiple of 4');
  const padding = text.endsWith('==') ? 2 : text.endsWith('=') ? 1 : 0;
  return decode(text.slice(0, text.length - padding), STANDARD_VALUES);
}

/** Reads unpadded base64url. @throws EncodingError for any other form, spare bits included */
export function fromBase64Url(text: string): Uint8Array {
  return decode(text, URL_SAFE_VALUES);
}

function encode(bytes: Uint8Array, alphabet: string): string {
  let text = '';
  let held = 0;
  let bits = 0;
  for (const byte of bytes) {
    held = ((held << 8) | byte) & 0xffff;
    bits += 8;
    while (bits >= 6) {
      bits -= 6;
      text += alphabet[(held >> bits) & 63];
    }
  }
  return bits > 0 ? text + alphabet[(held << (6 - bits)) & 63] : text;
}

function decode(text: string, values: Int8Array): Uint8Array {
  if (text.length % 4 === 1) throw new EncodingError('truncated', 'Base64 text ends inside a byte');
  const out = new Uint8Array(Math.floor((text.length * 6) / 8));
  let held = 0;
  let bits = 0;
  let length = 0;
  for (let i = 0; i < text.length; i++) {
    const value = values[text.charCodeAt(i)] ?? -1;
    if (value < 0) throw new EncodingError('invalid-value', `No base64 digit at position ${i}`);
    held = ((held << 6) | value) & 0xffff;
    bits += 6;
    if (bits >= 8) {
      bits -= 8;
      out[length++] = (held >> bits) & 0xff;
    }
  }
  if ((held & ((1 << bits) - 1)) !== 0)
    throw new EncodingError('not-canonical', 'Base64 text has spare bits set');
  return out;
}

function valuesOf(alphabet: string): Int8Array {
  const values = new Int8Array(128).fill(-1);
  for (let i = 0; i < alphabet.length; i++) values[alphabet.charCodeAt(i)] = i;
  return values;
}
