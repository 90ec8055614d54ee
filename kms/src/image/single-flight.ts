import { performance } from 'node:perf_hooks';
import { BoundedMap, InFlight } from '@dstack-cloud/runtime';

export type SingleFlightOptions = {
  /** Keys that may be worked on at the same time; for one more `busy` is thrown. */
  readonly limit: number;
  readonly busy: () => Error;
  /** Wait after the first failure of a key; each further one doubles it, up to `maxMs`. */
  readonly firstMs: number;
  readonly maxMs: number;
  /** Milliseconds that never go back. */
  readonly clock?: () => number;
};

type Failure = { readonly error: unknown; readonly until: number; readonly waitMs: number };

const MAX_FAILURES_KEPT = 1024;

/** One run for each key at a time; whoever asks meanwhile gets its result, and after a failure the same failure for a while. */
export class SingleFlight<T> {
  readonly #options: SingleFlightOptions;
  readonly #running = new InFlight<string, T>();
  readonly #failures = new BoundedMap<string, Failure>(MAX_FAILURES_KEPT);

  constructor(options: SingleFlightOptions) {
    this.#options = options;
  }

  run(key: string, work: () => Promise<T>): Promise<T> {
    const running = this.#running.get(key);
    if (running !== undefined) return running;
    const failed = this.#failures.get(key);
    if (failed !== undefined && this.#now() < failed.until) return Promise.reject(failed.error);
    if (this.#running.size >= this.#options.limit) return Promise.reject(this.#options.busy());
    return this.#running.run(key, () => this.#watched(key, work));
  }

  /** Forgets failures: the next run starts at once. */
  forget(): void {
    this.#failures.clear();
  }

  async #watched(key: string, work: () => Promise<T>): Promise<T> {
    try {
      const value = await work();
      this.#failures.delete(key);
      return value;
    } catch (error) {
      this.#remember(key, error);
      throw error;
    }
  }

  #remember(key: string, error: unknown): void {
    const before = this.#failures.get(key)?.waitMs;
    const { firstMs, maxMs } = this.#options;
    const waitMs = Math.min(before === undefined ? firstMs : 2 * before, maxMs);
    this.#failures.set(key, { error, waitMs, until: this.#now() + waitMs });
  }

  #now(): number {
    return (this.#options.clock ?? performance.now.bind(performance))();
  }
}
