import { EncodingError } from './errors.ts';

const encoder = new TextEncoder();
const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** Joins byte strings. */
export function concatBytes(...parts: Uint8Array[]): Uint8Array {
  let length = 0;
  for (const part of parts) length += part.length;
  const out = new Uint8Array(length);
  let offset = 0;
  for (const part of parts) {
    out.set(part, offset);
    offset += part.length;
  }
  return out;
}

/** Compares public values; stops at the first difference. Use `equalConstantTime` for secrets. */
export function equalBytes(a: Uint8Array, b: Uint8Array): boolean {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}

/** Compares secrets: the time depends on the length of `a` only, as far as JavaScript can promise that. */
export function equalConstantTime(a: Uint8Array, b: Uint8Array): boolean {
  let difference = a.length ^ b.length;
  for (let i = 0; i < a.length; i++) difference |= a[i]! ^ (b[i] ?? 0);
  return difference === 0;
}

/** Lexicographic order of bytes, as `Array.prototype.sort` wants it. */
export function compareBytes(a: Uint8Array, b: Uint8Array): number {
  const common = Math.min(a.length, b.length);
  for (let i = 0; i < common; i++) {
    const difference = a[i]! - b[i]!;
    if (difference !== 0) return difference;
  }
  return a.length - b.length;
}

/** True when every byte is zero; also for the empty string. */
export function isZero(bytes: Uint8Array): boolean {
  // An iterator takes ten times as long.
  for (let at = 0; at < bytes.length; at += 1) if (bytes[at] !== 0) return false;
  return true;
}

/** The UTF-8 bytes of a text. */
export function utf8(text: string): Uint8Array {
  return encoder.encode(text);
}

/** The text of UTF-8 bytes; a byte order mark is kept. @throws EncodingError for bytes that are not UTF-8 */
export function utf8Text(bytes: Uint8Array): string {
  try {
    return decoder.decode(bytes);
  } catch (cause) {
    throw new EncodingError('invalid-value', 'Not valid UTF-8', { cause });
  }
}

/** Appends zero bytes up to `length`. @throws EncodingError when the bytes are longer already */
export function padRight(bytes: Uint8Array, length: number): Uint8Array {
  if (bytes.length > length) {
    throw new EncodingError('too-large', `Expected at most ${length} bytes, found ${bytes.length}`);
  }
  const out = new Uint8Array(length);
  out.set(bytes);
  return out;
}
