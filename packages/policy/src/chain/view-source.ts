import { performance } from 'node:perf_hooks';
import type { ChainView } from './read-view.ts';

/** A view and whether it was read before the request came. */
export type ServedView = { readonly view: ChainView; readonly reused: boolean };

type Latest = { readonly view: ChainView; readonly at: number; readonly until: number };

/** A view may serve requests for this many times as long as readings of late took: no wait while it is renewed. */
const REUSE_PER_READING = 3;
/** … and for so long at least, when readings are faster than that. */
const SHORTEST_REUSE_MS = 15;
/** Of so many readings the median counts, so that one that hung does not make the next view serve for long. */
const READINGS = 9;

/**
 * Serves views of the chain and shares the reading of them among requests. A view serves those who come soon after
 * it was read, for a time that follows the latency of the endpoints and never exceeds `reuseMs`: under load the view
 * is renewed all the time in the background, and a single request reads its own.
 */
export class ViewSource {
  readonly #read: () => Promise<ChainView>;
  readonly #reuseMs: number;
  readonly #clock: () => number;
  readonly #durations: number[] = [];
  #latest: Latest | undefined;
  #running: Promise<ChainView> | undefined;
  #queued: Promise<ChainView> | undefined;

  /**
   * @param reuseMs how old a view may be at most, counted from the begin of its reading; 0 for never reused
   * @param clock monotonic milliseconds
   */
  constructor(
    read: () => Promise<ChainView>,
    reuseMs: number,
    clock: () => number = () => performance.now(),
  ) {
    this.#read = read;
    this.#reuseMs = reuseMs;
    this.#clock = clock;
  }

  /** The latest view that was read. */
  get latest(): ChainView | undefined {
    return this.#latest?.view;
  }

  /** A view that was read a moment ago, if there is one; from a third of its time on it is renewed meanwhile. */
  recent(): ChainView | undefined {
    const now = this.#clock();
    if (!this.#latest || now >= this.#latest.until) return undefined;
    const { view, at, until } = this.#latest;
    // A failure shows up when the view is too old to be reused.
    if (now >= at + (until - at) / 3 && !this.#running) this.#start().catch(() => {});
    return view;
  }

  /** A recent view, or else a fresh one. */
  async current(): Promise<ServedView> {
    const recent = this.recent();
    return recent ? { view: recent, reused: true } : { view: await this.fresh(), reused: false };
  }

  /** A view whose reading begins after this call: whatever the chain confirmed before is in it. */
  fresh(): Promise<ChainView> {
    if (!this.#running) return this.#start();
    // The running one may have asked its question before our caller's world changed: share the next.
    this.#queued ??= this.#running
      .catch(() => {})
      .then(() => {
        this.#queued = undefined;
        return this.#start();
      });
    return this.#queued;
  }

  #start(): Promise<ChainView> {
    const startedAt = this.#clock();
    const running = this.#read()
      .then((view) => {
        const at = this.#clock();
        const until = Math.min(startedAt + this.#reuseMs, at + this.#reuseFor(at - startedAt));
        this.#latest = { view, at, until };
        return view;
      })
      .finally(() => {
        this.#running = undefined;
      });
    this.#running = running;
    return running;
  }

  #reuseFor(duration: number): number {
    this.#durations.push(duration);
    if (this.#durations.length > READINGS) this.#durations.shift();
    const sorted = [...this.#durations].sort((a, b) => a - b);
    const median = sorted[sorted.length >> 1] ?? 0;
    return Math.max(SHORTEST_REUSE_MS, REUSE_PER_READING * median);
  }
}
