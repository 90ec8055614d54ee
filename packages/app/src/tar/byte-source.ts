import { AppError } from '../errors.ts';

/** Bytes that arrive in pieces of any size, taken in pieces of wanted sizes. */
export class ByteSource {
  readonly #chunks: AsyncIterator<Uint8Array>;
  #rest: Uint8Array = new Uint8Array();
  #taken = 0;
  readonly #limit: number;

  /** @param limit bytes that may arrive in all */
  constructor(chunks: AsyncIterable<Uint8Array>, limit: number) {
    this.#chunks = chunks[Symbol.asyncIterator]();
    this.#limit = limit;
  }

  /** Exactly so many bytes, in one piece; for small sizes. @throws AppError `image-archive-invalid` at the end of the bytes */
  async take(length: number): Promise<Uint8Array> {
    const out = new Uint8Array(length);
    let at = 0;
    for await (const part of this.parts(length)) {
      out.set(part, at);
      at += part.length;
    }
    return out;
  }

  /** Exactly so many bytes, as they arrive. @throws AppError `image-archive-invalid` at the end of the bytes */
  async *parts(length: number): AsyncGenerator<Uint8Array> {
    let wanted = length;
    while (wanted > 0) {
      const part = await this.#some(wanted);
      if (part === undefined) throw new AppError('image-archive-invalid', 'The image archive ends early');
      wanted -= part.length;
      yield part;
    }
  }

  /** All that is left. */
  async *rest(): AsyncGenerator<Uint8Array> {
    for (;;) {
      const part = await this.#some(Number.MAX_SAFE_INTEGER);
      if (part === undefined) return;
      yield part;
    }
  }

  async #some(most: number): Promise<Uint8Array | undefined> {
    while (this.#rest.length === 0) {
      const { done, value } = await this.#chunks.next();
      if (done === true) return undefined;
      this.#taken += value.length;
      if (this.#taken > this.#limit) {
        throw new AppError(
          'image-archive-invalid',
          `The image takes more than ${this.#limit} bytes unpacked`,
        );
      }
      this.#rest = value;
    }
    const part = this.#rest.subarray(0, most);
    this.#rest = this.#rest.subarray(part.length);
    return part;
  }
}
