/** For so long nothing but connections is taken; then what waits has a turn, and connections again. */
const ACCEPT_MS = 12;

/**
 * Lets whatever takes long wait while connections come. The kernel keeps them in one queue that knows no networks, and
 * libuv takes one of them in each turn of the event loop. If each turn did a handshake or answered requests too, a newcomer
 * would wait for those of all who came before. Taken first, the queue costs a fraction of that, and then they can be told
 * apart.
 */
export class Arrivals {
  readonly #clock: () => number;
  #hasCome = false;
  #since: number | undefined;

  /** @param clock monotonic milliseconds */
  constructor(clock: () => number = () => performance.now()) {
    this.#clock = clock;
  }

  /** A connection was taken. */
  note(): void {
    this.#hasCome = true;
  }

  /** Asked once in each turn of the loop: whether to ask again in the next one, since there may be more in the queue. */
  goFirst(): boolean {
    if (!this.#hasCome) {
      this.#since = undefined;
      return false;
    }
    this.#hasCome = false;
    const now = this.#clock();
    this.#since ??= now;
    if (now - this.#since < ACCEPT_MS) return true;
    this.#since = now;
    return false;
  }
}
