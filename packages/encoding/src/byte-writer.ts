import { EncodingError } from './errors.ts';

const U64_MAX = 0xffff_ffff_ffff_ffffn;

/** Collects bytes; the counterpart of `ByteReader`. Growing replaces the view, so it comes before each write. */
export class ByteWriter {
  #bytes: Uint8Array = new Uint8Array(256);
  #view: DataView = new DataView(this.#bytes.buffer);
  #length = 0;

  /** Bytes written so far. */
  get length(): number {
    return this.#length;
  }

  u8(value: number): this {
    const at = this.#grow(1, value, 0xff);
    this.#view.setUint8(at, value);
    return this;
  }

  u16le(value: number): this {
    const at = this.#grow(2, value, 0xffff);
    this.#view.setUint16(at, value, true);
    return this;
  }

  u32le(value: number): this {
    const at = this.#grow(4, value, 0xffff_ffff);
    this.#view.setUint32(at, value, true);
    return this;
  }

  u64le(value: bigint): this {
    const at = this.#grow64(value);
    this.#view.setBigUint64(at, value, true);
    return this;
  }

  u16be(value: number): this {
    const at = this.#grow(2, value, 0xffff);
    this.#view.setUint16(at, value);
    return this;
  }

  u32be(value: number): this {
    const at = this.#grow(4, value, 0xffff_ffff);
    this.#view.setUint32(at, value);
    return this;
  }

  u64be(value: bigint): this {
    const at = this.#grow64(value);
    this.#view.setBigUint64(at, value);
    return this;
  }

  bytes(bytes: Uint8Array): this {
    const start = this.#reserve(bytes.length);
    this.#bytes.set(bytes, start);
    return this;
  }

  /** A copy of all bytes written. */
  finish(): Uint8Array {
    return this.#bytes.slice(0, this.#length);
  }

  #grow(size: number, value: number, max: number): number {
    if (!Number.isInteger(value) || value < 0 || value > max) {
      throw new EncodingError('invalid-value', `Number ${value} does not fit in ${size} bytes`);
    }
    return this.#reserve(size);
  }

  #grow64(value: bigint): number {
    if (value < 0n || value > U64_MAX) {
      throw new EncodingError('invalid-value', `Number ${value} does not fit in 8 bytes`);
    }
    return this.#reserve(8);
  }

  #reserve(size: number): number {
    const start = this.#length;
    this.#length += size;
    if (this.#length > this.#bytes.length) {
      const larger = new Uint8Array(Math.max(this.#length, this.#bytes.length * 2));
      larger.set(this.#bytes);
      this.#bytes = larger;
      this.#view = new DataView(larger.buffer);
    }
    return start;
  }
}
