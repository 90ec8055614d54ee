/** A worker that served for so long has not failed because of what it found at its start. */
const STEADY_MS = 30_000;
const FIRST_DELAY_MS = 100;
const MAX_DELAY_MS = 5_000;
/** Ends of one worker in a row, each soon after its start, that are taken for a loop. */
const MAX_FAILURES = 6;

/** When a worker that ended is started again; never, when that helps nothing. */
export class RestartPolicy {
  readonly #now: () => number;
  #failures = 0;
  #since = 0;

  /** @param now milliseconds that never go back */
  constructor(now: () => number) {
    this.#now = now;
  }

  started(): void {
    this.#since = this.#now();
  }

  /** Milliseconds to wait; undefined when it ends again and again. */
  ended(): number | undefined {
    if (this.#now() - this.#since >= STEADY_MS) this.#failures = 0;
    this.#failures += 1;
    if (this.#failures >= MAX_FAILURES) return undefined;
    return Math.min(FIRST_DELAY_MS * 2 ** (this.#failures - 1), MAX_DELAY_MS);
  }
}
