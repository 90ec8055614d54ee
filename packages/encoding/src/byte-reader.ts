import { EncodingError } from './errors.ts';

/** Reads a byte string from front to back; every read is checked against what is left. */
export class ByteReader {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  #offset = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  /** Bytes read so far. */
  get offset(): number {
    return this.#offset;
  }

  /** Bytes not read yet. */
  get remaining(): number {
    return this.#bytes.length - this.#offset;
  }

  /** The next `length` bytes, as a view of the input. @throws EncodingError when fewer are left */
  take(length: number): Uint8Array {
    const start = this.#advance(length);
    return this.#bytes.subarray(start, start + length);
  }

  u8(): number {
    return this.#view.getUint8(this.#advance(1));
  }

  u16le(): number {
    return this.#view.getUint16(this.#advance(2), true);
  }

  u32le(): number {
    return this.#view.getUint32(this.#advance(4), true);
  }

  u64le(): bigint {
    return this.#view.getBigUint64(this.#advance(8), true);
  }

  u16be(): number {
    return this.#view.getUint16(this.#advance(2));
  }

  u32be(): number {
    return this.#view.getUint32(this.#advance(4));
  }

  u64be(): bigint {
    return this.#view.getBigUint64(this.#advance(8));
  }

  /** Everything that is left. */
  rest(): Uint8Array {
    return this.take(this.remaining);
  }

  /** Ends the reading. @throws EncodingError when bytes are left */
  finish(): void {
    if (this.remaining > 0) throw new EncodingError('trailing-bytes', `${this.remaining} bytes too many`);
  }

  #advance(length: number): number {
    if (!Number.isSafeInteger(length) || length < 0 || length > this.remaining) {
      throw new EncodingError('truncated', `Expected ${length} more bytes, found ${this.remaining}`);
    }
    const start = this.#offset;
    this.#offset += length;
    return start;
  }
}
