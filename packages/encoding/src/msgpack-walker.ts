import { ByteReader } from './byte-reader.ts';
import { EncodingError } from './errors.ts';

/** What stands at a place of a MessagePack text; extensions are refused. */
export type MsgpackKind = 'nil' | 'boolean' | 'integer' | 'float' | 'text' | 'bytes' | 'array' | 'map';

/** Walks over the headers of a MessagePack text; nothing of it is built. */
export class MsgpackWalker {
  readonly #bytes: Uint8Array;
  readonly #start: number;
  readonly #reader: ByteReader;
  kind: MsgpackKind = 'nil';
  /** Of an integer its value, of a text or byte string its length, of an array or map the number of items or pairs. */
  value = 0;

  constructor(bytes: Uint8Array, offset = 0) {
    this.#bytes = bytes;
    this.#start = offset;
    this.#reader = new ByteReader(bytes.subarray(offset));
  }

  get offset(): number {
    return this.#start + this.#reader.offset;
  }

  get done(): boolean {
    return this.#reader.remaining === 0;
  }

  /** Reads one header, and over the content of what has no values inside. @throws EncodingError */
  next(): void {
    const reader = this.#reader;
    const type = reader.u8();
    if (type <= 0x7f) this.#is('integer', type);
    else if (type >= 0xe0) this.#is('integer', type - 0x100);
    else if (type <= 0x8f) this.#is('map', type & 0x0f);
    else if (type <= 0x9f) this.#is('array', type & 0x0f);
    else if (type <= 0xbf) this.#content('text', type & 0x1f);
    else this.#typed(type);
  }

  /** The content of the text or byte string that was read last, as a view of the input. */
  content(): Uint8Array {
    return this.#bytes.subarray(this.offset - this.value, this.offset);
  }

  /** Reads over one whole value. @throws EncodingError */
  skip(): void {
    for (let left = 1; left > 0; left--) {
      this.next();
      if (this.kind === 'array') left += this.value;
      else if (this.kind === 'map') left += 2 * this.value;
    }
  }

  #typed(type: number): void {
    const reader = this.#reader;
    if (type === 0xc0) this.#is('nil', 0);
    else if (type === 0xc2 || type === 0xc3) this.#is('boolean', type & 1);
    else if (type >= 0xc4 && type <= 0xc6) this.#content('bytes', this.#unsigned(type - 0xc4));
    else if (type === 0xca || type === 0xcb) {
      reader.take(type === 0xca ? 4 : 8);
      this.#is('float', 0);
    } else if (type >= 0xcc && type <= 0xcf) this.#is('integer', this.#unsigned(type - 0xcc));
    else if (type >= 0xd0 && type <= 0xd3) this.#is('integer', this.#signed(type - 0xd0));
    else if (type >= 0xd9 && type <= 0xdb) this.#content('text', this.#unsigned(type - 0xd9));
    else if (type === 0xdc || type === 0xdd) this.#is('array', this.#unsigned(type - 0xdb));
    else if (type === 0xde || type === 0xdf) this.#is('map', this.#unsigned(type - 0xdd));
    else throw new EncodingError('invalid-value', `Not the MessagePack expected: type ${type.toString(16)}`);
  }

  #is(kind: MsgpackKind, value: number): void {
    this.kind = kind;
    this.value = value;
  }

  #content(kind: 'text' | 'bytes', length: number): void {
    this.#reader.take(length);
    this.#is(kind, length);
  }

  /** A number of 2^width bytes; beyond 2^53 it is not exact. */
  #unsigned(width: number): number {
    const reader = this.#reader;
    if (width === 0) return reader.u8();
    if (width === 1) return reader.u16be();
    return width === 2 ? reader.u32be() : Number(reader.u64be());
  }

  #signed(width: number): number {
    const bits = 8 * 2 ** width;
    if (bits === 64) return Number(BigInt.asIntN(64, this.#reader.u64be()));
    const value = this.#unsigned(width);
    return value >= 2 ** (bits - 1) ? value - 2 ** bits : value;
  }
}
