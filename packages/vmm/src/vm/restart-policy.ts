const FIRST_MS = 5_000;
const MAX_ATTEMPTS = 5;
/** A machine that ran for this long starts with a fresh count. */
const SETTLED_MS = 300_000;

/** Pauses before a machine that ended by itself is started again. */
export class RestartPolicy {
  readonly #clock: () => number;
  #attempts = 0;
  #runsSince: number;

  /** @param clock milliseconds that never go back */
  constructor(clock: () => number = () => performance.now()) {
    this.#clock = clock;
    this.#runsSince = clock();
  }

  /** The machine is up. */
  isUp(): void {
    this.#runsSince = this.#clock();
  }

  /** Milliseconds until the next start; undefined when it ended too often. */
  next(): number | undefined {
    if (this.#clock() - this.#runsSince >= SETTLED_MS) this.#attempts = 0;
    if (this.#attempts === MAX_ATTEMPTS) return undefined;
    this.#attempts += 1;
    this.#runsSince = this.#clock();
    return FIRST_MS * 2 ** (this.#attempts - 1);
  }
}
