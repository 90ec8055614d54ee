const HASH_BYTES = 32;

/** A growing list of 32-byte hashes in one buffer: an object for each would take four times the memory. */
export class PackedHashes {
  #bytes = new Uint8Array(64 * HASH_BYTES);
  #length = 0;

  get length(): number {
    return this.#length;
  }

  push(hash: Uint8Array): void {
    const end = (this.#length + 1) * HASH_BYTES;
    if (end > this.#bytes.length) {
      const larger = new Uint8Array(this.#bytes.length * 2);
      larger.set(this.#bytes);
      this.#bytes = larger;
    }
    this.#bytes.set(hash, this.#length * HASH_BYTES);
    this.#length += 1;
  }

  /** A copy of hash `index`; undefined behind the end. */
  get(index: number): Uint8Array | undefined {
    if (index < 0 || index >= this.#length) return undefined;
    return this.#bytes.slice(index * HASH_BYTES, (index + 1) * HASH_BYTES);
  }
}
