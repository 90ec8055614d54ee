import { RpcError } from '@dstack-cloud/prpc';

/** Lets a bounded number of tasks run at once and a bounded number wait; the rest is turned away. */
export class Turnstile {
  readonly #width: number;
  readonly #waiting: (() => void)[] = [];
  #running = 0;

  /** @param width tasks at once; four times as many may wait */
  constructor(width: number) {
    this.#width = width;
  }

  /** @throws RpcError `UNAVAILABLE` when too many wait already */
  async run<T>(task: () => Promise<T>): Promise<T> {
    if (this.#running >= this.#width) {
      if (this.#waiting.length >= 4 * this.#width) {
        throw new RpcError('Too many requests wait for verification; try again', {
          code: 'UNAVAILABLE',
          status: 503,
        });
      }
      // The slot is handed over by the task that ends, so the count stays as it is.
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    } else {
      this.#running += 1;
    }
    try {
      return await task();
    } finally {
      const next = this.#waiting.shift();
      if (next === undefined) this.#running -= 1;
      else next();
    }
  }
}
