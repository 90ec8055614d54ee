import { EncodingError } from '../errors.ts';

/** One DER element. `contents` and `raw` are views of the input. */
export interface DerElement {
  /** The identifier octet: class, constructed bit and number below 31. */
  readonly tag: number;
  readonly contents: Uint8Array;
  /** Identifier, length and contents. */
  readonly raw: Uint8Array;
}

/** Most elements are read for their contents only, many not even for these: views are made when asked for. */
class Element implements DerElement {
  readonly tag: number;
  readonly #bytes: Uint8Array;
  readonly #start: number;
  readonly #begin: number;
  readonly #end: number;

  constructor(tag: number, bytes: Uint8Array, start: number, begin: number, end: number) {
    this.tag = tag;
    this.#bytes = bytes;
    this.#start = start;
    this.#begin = begin;
    this.#end = end;
  }

  get contents(): Uint8Array {
    return this.#bytes.subarray(this.#begin, this.#end);
  }

  get raw(): Uint8Array {
    return this.#bytes.subarray(this.#start, this.#end);
  }
}

/** Reads consecutive DER elements (X.690 section 10); indefinite and non-minimal lengths are refused. */
export class DerReader {
  readonly #bytes: Uint8Array;
  #offset = 0;

  constructor(contents: Uint8Array) {
    this.#bytes = contents;
  }

  get done(): boolean {
    return this.#offset >= this.#bytes.length;
  }

  /** The tag of the next element, or undefined at the end. */
  get nextTag(): number | undefined {
    return this.#bytes[this.#offset];
  }

  /** The next element. @throws EncodingError when none is left, it is not DER, or it has another tag */
  next(tag?: number): DerElement {
    const start = this.#offset;
    const found = this.nextTag;
    if (found === undefined) throw new EncodingError('truncated', 'DER ends where an element is expected');
    if (tag !== undefined && found !== tag) {
      throw new EncodingError('unexpected-tag', `Expected DER tag ${hexTag(tag)}, found ${hexTag(found)}`);
    }
    this.#offset++;
    // Numbers of 31 and more take further identifier octets (X.690 section 8.1.2.4); nothing here uses them.
    if ((found & 0x1f) === 0x1f) throw new EncodingError('unexpected-tag', 'DER tag number above 30');
    const length = this.#length();
    const begin = this.#offset;
    if (length > this.#bytes.length - begin) {
      throw new EncodingError(
        'truncated',
        `DER element of ${length} bytes, only ${this.#bytes.length - begin} left`,
      );
    }
    this.#offset = begin + length;
    return new Element(found, this.#bytes, start, begin, this.#offset);
  }

  /** The next element if it has this tag, else undefined. */
  optional(tag: number): DerElement | undefined {
    return this.nextTag === tag ? this.next(tag) : undefined;
  }

  /** Ends the reading. @throws EncodingError when bytes are left */
  finish(): void {
    if (!this.done) {
      throw new EncodingError(
        'trailing-bytes',
        `${this.#bytes.length - this.#offset} bytes after the DER element`,
      );
    }
  }

  #byte(): number {
    const byte = this.#bytes[this.#offset];
    if (byte === undefined) throw new EncodingError('truncated', 'DER ends inside an element');
    this.#offset++;
    return byte;
  }

  #length(): number {
    const first = this.#byte();
    if (first < 0x80) return first;
    const octets = first & 0x7f;
    if (octets === 0) throw new EncodingError('not-canonical', 'DER length is indefinite');
    if (octets > 4) throw new EncodingError('too-large', 'DER length takes more than 4 octets');
    let length = 0;
    for (let i = 0; i < octets; i++) length = length * 256 + this.#byte();
    if (length < 0x80 || length < 256 ** (octets - 1)) {
      throw new EncodingError('not-canonical', 'DER length is not minimal');
    }
    return length;
  }
}

/** Reads exactly one DER element. @throws EncodingError when it is not DER or bytes follow */
export function readDer(bytes: Uint8Array): DerElement {
  const reader = new DerReader(bytes);
  const element = reader.next();
  reader.finish();
  return element;
}

function hexTag(tag: number): string {
  return `0x${tag.toString(16).padStart(2, '0')}`;
}
