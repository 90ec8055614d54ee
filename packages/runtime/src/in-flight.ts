/** Work that runs at most once per key at a time: callers that come meanwhile share its result. */
export class InFlight<K, V> {
  readonly #running = new Map<K, Promise<V>>();

  /** Number of keys that are worked on. */
  get size(): number {
    return this.#running.size;
  }

  /** The result that is on its way for a key. */
  get(key: K): Promise<V> | undefined {
    return this.#running.get(key);
  }

  /** Joins the work that runs for this key, or begins it at once. */
  run(key: K, work: () => Promise<V>): Promise<V> {
    const running = this.#running.get(key);
    if (running !== undefined) return running;
    const result = work().finally(() => this.#running.delete(key));
    this.#running.set(key, result);
    return result;
  }
}
