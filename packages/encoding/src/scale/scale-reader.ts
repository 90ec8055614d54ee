import { ByteReader } from '../byte-reader.ts';
import { utf8Text } from '../bytes.ts';
import { EncodingError } from '../errors.ts';

const MAX_COMPACT_BYTES = 8;

/** Reads SCALE (the codec of Substrate); compact integers must be minimal, and all bytes must be used. */
export class ScaleReader {
  readonly #reader: ByteReader;

  constructor(bytes: Uint8Array) {
    this.#reader = new ByteReader(bytes);
  }

  get offset(): number {
    return this.#reader.offset;
  }

  get remaining(): number {
    return this.#reader.remaining;
  }

  u8(): number {
    return this.#reader.u8();
  }

  u16(): number {
    return this.#reader.u16le();
  }

  u32(): number {
    return this.#reader.u32le();
  }

  u64(): bigint {
    return this.#reader.u64le();
  }

  /** A compact integer that fits in 53 bits. @throws EncodingError when it is larger or not minimal */
  compact(): number {
    const value = this.compactBig();
    if (value > BigInt(Number.MAX_SAFE_INTEGER))
      throw new EncodingError('too-large', 'SCALE compact is too large');
    return Number(value);
  }

  /** A compact integer of up to 64 bits. @throws EncodingError when it is larger or not minimal */
  compactBig(): bigint {
    const first = this.#reader.u8();
    const mode = first & 3;
    if (mode === 0) return BigInt(first >> 2);
    if (mode === 1) return minimal(BigInt((first | (this.#reader.u8() << 8)) >>> 2), 1n << 6n);
    if (mode === 2) {
      const rest = this.#reader.take(3);
      const value = (first | (rest[0]! << 8) | (rest[1]! << 16) | (rest[2]! << 24)) >>> 2;
      return minimal(BigInt(value), 1n << 14n);
    }
    const length = (first >> 2) + 4;
    if (length > MAX_COMPACT_BYTES) throw new EncodingError('too-large', 'SCALE compact exceeds 64 bits');
    let value = 0n;
    const bytes = this.#reader.take(length);
    for (let i = length - 1; i >= 0; i--) value = (value << 8n) | BigInt(bytes[i]!);
    return minimal(value, length === 4 ? 1n << 30n : 1n << BigInt(8 * (length - 1)));
  }

  /** A length-prefixed byte string of at most `max` bytes, as a view of the input. */
  bytes(max: number = this.remaining): Uint8Array {
    const length = this.compact();
    if (length > max)
      throw new EncodingError('too-large', `SCALE bytes: ${length} exceed the limit of ${max}`);
    return this.#reader.take(length);
  }

  /** A length-prefixed UTF-8 text of at most `max` bytes. */
  string(max?: number): string {
    return utf8Text(this.bytes(max));
  }

  /** Exactly `length` bytes without a prefix, as a view of the input. */
  fixed(length: number): Uint8Array {
    return this.#reader.take(length);
  }

  bool(): boolean {
    const byte = this.#reader.u8();
    if (byte > 1) throw new EncodingError('invalid-value', `SCALE bool is ${byte}`);
    return byte === 1;
  }

  /** `None` (undefined) or `Some` of what `read` reads. */
  option<T>(read: () => T): T | undefined {
    const byte = this.#reader.u8();
    if (byte > 1) throw new EncodingError('invalid-value', `SCALE option is ${byte}`);
    return byte === 1 ? read() : undefined;
  }

  /** A vector of at most `max` items. */
  vec<T>(read: () => T, max: number): T[] {
    const length = this.compact();
    if (length > max)
      throw new EncodingError('too-large', `SCALE vector: ${length} items exceed the limit of ${max}`);
    const items: T[] = [];
    for (let i = 0; i < length; i++) items.push(read());
    return items;
  }

  /** Ends the reading. @throws EncodingError when bytes are left */
  finish(): void {
    this.#reader.finish();
  }
}

function minimal(value: bigint, least: bigint): bigint {
  if (value < least) throw new EncodingError('not-canonical', 'SCALE compact is not minimal');
  return value;
}
