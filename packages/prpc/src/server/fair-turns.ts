/** How long turns may follow each other before the loop looks for what has come meanwhile. */
const SLICE_MS = 4;

type Enter = () => void;

/**
 * Hands out the thread to tasks that keep it for milliseconds: the next turn is of the source that has waited longest
 * for one, and new requests are read in between. A source that sends much, or something large, delays only itself.
 */
export class FairTurns {
  readonly #perLoop: number;
  readonly #mustWait: () => boolean;
  /** In the order of their next turns. */
  readonly #waiting = new Map<string, Enter[]>();
  #isScheduled = false;

  /**
   * @param options.perLoop turns at most before the loop goes on, for tasks whose work comes later
   * @param options.mustWait asked before turns begin, once in each turn of the loop: whether something else goes first
   */
  constructor(options: { readonly perLoop?: number; readonly mustWait?: () => boolean } = {}) {
    this.#perLoop = options.perLoop ?? Number.POSITIVE_INFINITY;
    this.#mustWait = options.mustWait ?? (() => false);
  }

  /** Resolves when it is the turn of this source; what is done then without waiting belongs to the turn. */
  next(source: string): Promise<void> {
    return new Promise((enter) => this.take(source, enter));
  }

  /** As `next`, without a promise. */
  take(source: string, enter: Enter): void {
    const own = this.#waiting.get(source);
    if (own === undefined) this.#waiting.set(source, [enter]);
    else own.push(enter);
    this.#schedule();
  }

  #schedule(): void {
    if (this.#isScheduled || this.#waiting.size === 0) return;
    this.#isScheduled = true;
    const begin = (): void => {
      if (this.#mustWait()) {
        setImmediate(begin);
        return;
      }
      this.#isScheduled = false;
      this.#turn(performance.now(), this.#perLoop);
    };
    setImmediate(begin);
  }

  #turn(began: number, left: number): void {
    const [first] = this.#waiting;
    if (first === undefined) return;
    if (left <= 0 || performance.now() - began >= SLICE_MS) {
      this.#schedule();
      return;
    }
    const [source, waiting] = first;
    const enter = waiting.shift();
    // Behind the others.
    this.#waiting.delete(source);
    if (waiting.length > 0) this.#waiting.set(source, waiting);
    enter?.();
    // After what the task does at once.
    queueMicrotask(() => this.#turn(began, left - 1));
  }
}
