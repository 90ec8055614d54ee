import { performance } from 'node:perf_hooks';
import type { ChainView } from './read-view.ts';

/** A view and whether it was read before the request came. */
export type ServedView = { readonly view: ChainView; readonly reused: boolean };

export type ViewSourceOptions = {
  /** How old a view may be at most, counted from the begin of its reading; 0 for never reused. */
  readonly reuseMs: number;
  /** Called with each view before requests see it; they go on with the view before meanwhile, as long as they may. */
  readonly prepare?: (view: ChainView) => Promise<void> | undefined;
  /** Monotonic milliseconds. */
  readonly clock?: () => number;
};

type Reading = {
  readonly view: ChainView;
  readonly at: number;
  /** It serves requests until then. */
  readonly end: number;
};

/** The next reading begins after this part of the time that a view may serve … */
const PAUSE_PART = 1 / 8;
/** … or after this many times what a reading takes, if that is longer. */
const PAUSE_PER_READING = 1.5;
/** Of so many readings the median counts, so that one that hung does not change the rhythm. */
const READINGS = 9;
/** So long after a request the chain is followed, so that the next request waits for nothing. */
const FOLLOW_MS = 2_000;
/** After a reading that failed. */
const RETRY_MS = 250;

/**
 * Serves views of the chain and shares the reading of them among requests. While requests come, the chain is read
 * again and again in the background, in a rhythm that follows the latency of the endpoints, and a view serves those
 * who come until the next one is there, never longer than `reuseMs`. When no requests come, nothing is read.
 */
export class ViewSource {
  readonly #read: () => Promise<ChainView>;
  readonly #reuseMs: number;
  readonly #prepare: (view: ChainView) => Promise<void> | undefined;
  readonly #clock: () => number;
  readonly #durations: number[] = [];
  #shown: Reading | undefined;
  #coming: Reading | undefined;
  #last: ChainView | undefined;
  #running: Promise<ChainView> | undefined;
  #queued: Promise<ChainView> | undefined;
  #asked = Number.NEGATIVE_INFINITY;
  #timer: NodeJS.Timeout | undefined;
  #closed = false;

  constructor(read: () => Promise<ChainView>, options: ViewSourceOptions) {
    this.#read = read;
    this.#reuseMs = options.reuseMs;
    this.#prepare = options.prepare ?? (() => undefined);
    this.#clock = options.clock ?? (() => performance.now());
  }

  /** The view that was read last. */
  get latest(): ChainView | undefined {
    return this.#last;
  }

  /** A view that was read a moment ago, for a request: from now on the chain is followed for a while. */
  recent(): ChainView | undefined {
    if (this.#reuseMs === 0) return undefined;
    this.#asked = this.#clock();
    if (!this.#timer && !this.#running) this.#follow(0);
    return this.#usable();
  }

  /** A recent view, or else a fresh one. @param follow false for who does not come as often as requests do */
  async current(follow = true): Promise<ServedView> {
    const recent = follow ? this.recent() : this.#usable();
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
        return this.#running ?? this.#start();
      });
    return this.#queued;
  }

  /** Requests shall see this view now, prepared or not. */
  show(view: ChainView): void {
    if (this.#coming?.view === view) this.#shown = this.#coming;
  }

  /** Ends the following of the chain. */
  close(): void {
    this.#closed = true;
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  #usable(): ChainView | undefined {
    const now = this.#clock();
    return [this.#shown, this.#coming].find((reading) => reading && now < reading.end)?.view;
  }

  #start(): Promise<ChainView> {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const startedAt = this.#clock();
    const running = this.#read().then(
      (view) => {
        this.#running = undefined;
        this.#took(view, startedAt);
        return view;
      },
      (error: unknown) => {
        this.#running = undefined;
        this.#follow(RETRY_MS);
        throw error;
      },
    );
    this.#running = running;
    return running;
  }

  #took(view: ChainView, startedAt: number): void {
    const at = this.#clock();
    const median = this.#medianWith(at - startedAt);
    const reading = { view, at, end: startedAt + this.#reuseMs };
    this.#last = view;
    const pause = Math.max(this.#reuseMs * PAUSE_PART, PAUSE_PER_READING * median);
    // The next one shall be there before this one ends.
    this.#follow(Math.min(pause, reading.end - at - 2 * median));
    const prepared = this.#prepare(view);
    this.#coming = reading;
    if (prepared) void prepared.then(() => this.#showReading(reading));
    else this.#showReading(reading);
  }

  #showReading(reading: Reading): void {
    if (this.#shown && this.#shown.at > reading.at) return;
    this.#shown = reading;
    if (this.#coming === reading) this.#coming = undefined;
  }

  /** Read again in a moment, if requests still come. */
  #follow(inMs: number): void {
    if (this.#reuseMs === 0 || this.#closed || this.#timer) return;
    if (this.#clock() - this.#asked > FOLLOW_MS) return;
    this.#timer = setTimeout(
      () => {
        this.#timer = undefined;
        // A failure shows up when there is no view left.
        if (!this.#running) this.#start().catch(() => {});
      },
      Math.max(0, inMs),
    );
    this.#timer.unref();
  }

  #medianWith(duration: number): number {
    this.#durations.push(duration);
    if (this.#durations.length > READINGS) this.#durations.shift();
    const sorted = [...this.#durations].sort((a, b) => a - b);
    return sorted[sorted.length >> 1] ?? 0;
  }
}
