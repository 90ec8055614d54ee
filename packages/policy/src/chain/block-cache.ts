/** More decisions than this at one block push out the oldest. */
const MAX_ENTRIES = 10_000;

/**
 * Shares decisions at one block: a call pinned to a block hash always gives the same result, so within the block one
 * question is enough. The next block starts anew. Only permissions are kept; denials and errors are asked again.
 */
export class BlockCache<T extends { readonly allowed: boolean }> {
  #block = '';
  #known = new Map<string, T>();
  #asked = new Map<string, Promise<T>>();

  /** The permission for `key` at `block`, if it is known already. */
  known(block: string, key: string): T | undefined {
    return block === this.#block ? this.#known.get(key) : undefined;
  }

  /** The decision for `key` at `block`, asking at most once at a time. */
  get(block: string, key: string, ask: () => Promise<T>): Promise<T> {
    if (block !== this.#block) {
      this.#block = block;
      this.#known = new Map();
      this.#asked = new Map();
    }
    const [known, asked] = [this.#known, this.#asked];
    const found = known.get(key);
    if (found) return Promise.resolve(found);
    const running = asked.get(key);
    if (running) return running;

    const answer = ask();
    asked.set(key, answer);
    answer.then(
      (verdict) => {
        asked.delete(key);
        if (verdict.allowed) remember(known, key, verdict);
      },
      () => asked.delete(key),
    );
    return answer;
  }
}

function remember<T>(known: Map<string, T>, key: string, verdict: T): void {
  known.set(key, verdict);
  if (known.size <= MAX_ENTRIES) return;
  const [oldest] = known.keys();
  if (oldest !== undefined) known.delete(oldest);
}
