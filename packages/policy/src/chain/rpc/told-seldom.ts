import { performance } from 'node:perf_hooks';

/** What goes wrong is told so often at most: each request may find it again. */
const TOLD_EVERY_MS = 10_000;

/** Counts something that happens again and again, and says when it is time to tell of it. */
export class ToldSeldom {
  #at = Number.NEGATIVE_INFINITY;
  #times = 0;

  /** It happened. @returns how often since it was told last, when it shall be told now */
  count(): number | undefined {
    this.#times += 1;
    const now = performance.now();
    if (now - this.#at < TOLD_EVERY_MS) return undefined;
    const times = this.#times;
    this.#at = now;
    this.#times = 0;
    return times;
  }
}
