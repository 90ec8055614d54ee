/** Answers that are the same for everybody, made once for all who ask within a time. */
export class KeptAnswers<T> {
  readonly #keepMs: number;
  readonly #clock: () => number;
  readonly #kept = new Map<
    string,
    { readonly at: number; readonly version: unknown; readonly value: Promise<T> }
  >();

  /** @param clock milliseconds that never go back */
  constructor(keepMs: number, clock: () => number = () => performance.now()) {
    this.#keepMs = keepMs;
    this.#clock = clock;
  }

  /**
   * The kept answer of this name, or a new one. One that fails is not kept, and is told to all who wait for it.
   *
   * @param version of what the answer is made from: another one ends it early
   * @param make called when there is none; names must be few, since they stay
   */
  get(name: string, version: unknown, make: () => Promise<T>): Promise<T> {
    const known = this.#kept.get(name);
    const isYoung = known !== undefined && this.#clock() - known.at < this.#keepMs;
    if (isYoung && known.version === version) return known.value;
    const value = make();
    const kept = { at: this.#clock(), version, value };
    this.#kept.set(name, kept);
    value.catch(() => {
      if (this.#kept.get(name) === kept) this.#kept.delete(name);
    });
    return value;
  }
}
