/** More decisions than this at one block push out the oldest. */
const MAX_ENTRIES = 10_000;

/**
 * Shares decisions at one block: a call pinned to a block hash always gives the same result, so within the block one
 * question is enough. The next block starts anew. Only permissions are kept; denials and errors are asked again.
 */
export class BlockCache<T extends { readonly allowed: boolean }> {
  #block = '';
  #entries = new Map<string, Promise<T>>();

  /** The decision for `key` at `block`, asking at most once at a time. */
  get(block: string, key: string, ask: () => Promise<T>): Promise<T> {
    if (block !== this.#block) {
      this.#block = block;
      this.#entries = new Map();
    }
    const entries = this.#entries;
    const known = entries.get(key);
    if (known) return known;

    const asked = ask();
    entries.set(key, asked);
    if (entries.size > MAX_ENTRIES) {
      const [oldest] = entries.keys();
      if (oldest !== undefined) entries.delete(oldest);
    }
    asked.then(
      ({ allowed }) => allowed || entries.delete(key),
      () => entries.delete(key),
    );
    return asked;
  }
}
