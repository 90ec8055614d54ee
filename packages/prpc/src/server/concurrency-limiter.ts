import { RpcError } from '../errors.ts';

type Waiting = { readonly source: string; readonly enter: () => void };

/**
 * Lets a bounded number of tasks run at once and a bounded number wait; the rest is turned away. One source has half of
 * the places at most, and the next place goes to the source that has fewest: a source that sends much waits for itself.
 */
export class ConcurrencyLimiter {
  readonly #width: number;
  readonly #share: { readonly running: number; readonly waiting: number };
  readonly #running = new Map<string, number>();
  #waiting: Waiting[] = [];
  #total = 0;

  /** @param width tasks at once; four times as many may wait */
  constructor(width: number) {
    this.#width = width;
    this.#share = { running: Math.ceil(width / 2), waiting: 2 * width };
  }

  /** @throws RpcError `UNAVAILABLE` when too many wait already, of all or of this source */
  async run<T>(source: string, task: () => Promise<T>): Promise<T> {
    if (!this.#hasRoom(source)) {
      const own = this.#waiting.filter((one) => one.source === source).length;
      if (this.#waiting.length >= 4 * this.#width || own >= this.#share.waiting) {
        throw new RpcError('Too many requests wait for verification; try again', {
          code: 'UNAVAILABLE',
          status: 503,
        });
      }
      // Whoever lets it in has counted it.
      await new Promise<void>((enter) => this.#waiting.push({ source, enter }));
    } else {
      this.#count(source, 1);
    }
    try {
      return await task();
    } finally {
      this.#count(source, -1);
      this.#letIn();
    }
  }

  #hasRoom(source: string): boolean {
    return this.#total < this.#width && this.#runningOf(source) < this.#share.running;
  }

  #runningOf(source: string): number {
    return this.#running.get(source) ?? 0;
  }

  #letIn(): void {
    let next: Waiting | undefined;
    for (const one of this.#waiting) {
      if (!this.#hasRoom(one.source)) continue;
      if (next === undefined || this.#runningOf(one.source) < this.#runningOf(next.source)) next = one;
    }
    if (next === undefined) return;
    this.#waiting = this.#waiting.filter((one) => one !== next);
    this.#count(next.source, 1);
    next.enter();
  }

  #count(source: string, change: 1 | -1): void {
    const running = this.#runningOf(source) + change;
    if (running > 0) this.#running.set(source, running);
    else this.#running.delete(source);
    this.#total += change;
  }
}
