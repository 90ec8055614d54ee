/** First and longest wait before a restart, as Docker has them, milliseconds. */
const FIRST_MS = 100;
const LONGEST_MS = 60_000;
/** A run of this length counts as a success and resets the waits. */
const RESET_AFTER_MS = 10_000;

/** Waits between restarts of one service: 100 ms doubling to one minute. */
export class BackOff {
  #next = FIRST_MS;

  /** Milliseconds to wait after a run of the given length. */
  after(runMs: number): number {
    if (runMs >= RESET_AFTER_MS) this.#next = FIRST_MS;
    const wait = this.#next;
    this.#next = Math.min(LONGEST_MS, wait * 2);
    return wait;
  }
}
