import { ByteWriter } from '../byte-writer.ts';
import { utf8 } from '../bytes.ts';
import { EncodingError } from '../errors.ts';

/** Writes SCALE; the counterpart of `ScaleReader`. */
export class ScaleWriter {
  readonly #writer: ByteWriter = new ByteWriter();

  u8(value: number): this {
    this.#writer.u8(value);
    return this;
  }

  u16(value: number): this {
    this.#writer.u16le(value);
    return this;
  }

  u32(value: number): this {
    this.#writer.u32le(value);
    return this;
  }

  u64(value: bigint): this {
    this.#writer.u64le(value);
    return this;
  }

  /** A compact integer below 2^64, in its shortest form. */
  compact(value: number | bigint): this {
    const big = BigInt(value);
    if (big < 0n || big >= 1n << 64n) throw new EncodingError('invalid-value', `${big} is no SCALE compact`);
    if (big < 1n << 6n) return this.u8(Number(big) << 2);
    if (big < 1n << 14n) return this.u16((Number(big) << 2) | 1);
    if (big < 1n << 30n) return this.u32(Number(big) * 4 + 2);
    const bytes: number[] = [];
    for (let rest = big; rest > 0n; rest >>= 8n) bytes.push(Number(rest & 0xffn));
    return this.u8(((bytes.length - 4) << 2) | 3).fixed(Uint8Array.from(bytes));
  }

  /** A byte string with its length. */
  bytes(bytes: Uint8Array): this {
    return this.compact(bytes.length).fixed(bytes);
  }

  /** A UTF-8 text with its length. */
  string(text: string): this {
    return this.bytes(utf8(text));
  }

  /** Bytes without a length. */
  fixed(bytes: Uint8Array): this {
    this.#writer.bytes(bytes);
    return this;
  }

  bool(value: boolean): this {
    return this.u8(value ? 1 : 0);
  }

  option<T>(value: T | undefined | null, write: (value: T) => void): this {
    if (value === undefined || value === null) return this.u8(0);
    this.u8(1);
    write(value);
    return this;
  }

  vec<T>(items: readonly T[], write: (item: T) => void): this {
    this.compact(items.length);
    for (const item of items) write(item);
    return this;
  }

  finish(): Uint8Array {
    return this.#writer.finish();
  }
}
