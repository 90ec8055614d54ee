import { performance } from 'node:perf_hooks';
import type { ChainSnapshot } from './read-snapshot.ts';

/** A snapshot and whether it was read before the request came. */
export type ServedSnapshot = { readonly snapshot: ChainSnapshot; readonly reused: boolean };

export type SnapshotSourceOptions = {
  /** How old a snapshot may be at most, counted from when its reading began; 0 for never reused. */
  readonly reuseMs: number;
  /** Called with each snapshot before requests see it; they go on with the snapshot before meanwhile, as long as they may. */
  readonly prepare?: (snapshot: ChainSnapshot) => Promise<void> | undefined;
  /** Monotonic milliseconds. */
  readonly clock?: () => number;
};

type Reading = {
  readonly snapshot: ChainSnapshot;
  readonly at: number;
  /** It serves requests until then. */
  readonly end: number;
};

/** The next reading begins after this part of the time that a snapshot may serve … */
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
 * Serves snapshots of the chain and shares the reading of them among requests. While requests come, the chain is read
 * again and again in the background, in a rhythm that follows the latency of the endpoints, and a snapshot serves those
 * who come until the next one is there, never longer than `reuseMs`. When no requests come, nothing is read.
 */
export class SnapshotSource {
  readonly #read: () => Promise<ChainSnapshot>;
  readonly #reuseMs: number;
  readonly #prepare: (snapshot: ChainSnapshot) => Promise<void> | undefined;
  readonly #clock: () => number;
  readonly #durations: number[] = [];
  #shown: Reading | undefined;
  #coming: Reading | undefined;
  #last: ChainSnapshot | undefined;
  #running: Promise<ChainSnapshot> | undefined;
  #queued: Promise<ChainSnapshot> | undefined;
  #asked = Number.NEGATIVE_INFINITY;
  #timer: NodeJS.Timeout | undefined;
  #closed = false;

  constructor(read: () => Promise<ChainSnapshot>, options: SnapshotSourceOptions) {
    this.#read = read;
    this.#reuseMs = options.reuseMs;
    this.#prepare = options.prepare ?? (() => undefined);
    this.#clock = options.clock ?? (() => performance.now());
  }

  /** The snapshot that was read last. */
  get latest(): ChainSnapshot | undefined {
    return this.#last;
  }

  /** A snapshot that was read a moment ago, for a request: from now on the chain is followed for a while. */
  recent(): ChainSnapshot | undefined {
    if (this.#reuseMs === 0) return undefined;
    this.#asked = this.#clock();
    if (!this.#timer && !this.#running) this.#follow(0);
    return this.#usable();
  }

  /** A recent snapshot, or else a fresh one. @param follow false for who does not come as often as requests do */
  async current(follow = true): Promise<ServedSnapshot> {
    const recent = follow ? this.recent() : this.#usable();
    return recent ? { snapshot: recent, reused: true } : { snapshot: await this.fresh(), reused: false };
  }

  /** A snapshot whose reading begins after this call: whatever the chain confirmed before is in it. */
  fresh(): Promise<ChainSnapshot> {
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

  /** Requests see this snapshot from now on, prepared or not. */
  show(snapshot: ChainSnapshot): void {
    if (this.#coming?.snapshot === snapshot) this.#shown = this.#coming;
  }

  /** Ends the following of the chain. */
  close(): void {
    this.#closed = true;
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  #usable(): ChainSnapshot | undefined {
    const now = this.#clock();
    return [this.#shown, this.#coming].find((reading) => reading && now < reading.end)?.snapshot;
  }

  #start(): Promise<ChainSnapshot> {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const startedAt = this.#clock();
    const running = this.#read().then(
      (snapshot) => {
        this.#running = undefined;
        this.#took(snapshot, startedAt);
        return snapshot;
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

  #took(snapshot: ChainSnapshot, startedAt: number): void {
    const at = this.#clock();
    const median = this.#medianWith(at - startedAt);
    const reading = { snapshot, at, end: startedAt + this.#reuseMs };
    this.#last = snapshot;
    const pause = Math.max(this.#reuseMs * PAUSE_PART, PAUSE_PER_READING * median);
    // The next one shall be there before this one ends.
    this.#follow(Math.min(pause, reading.end - at - 2 * median));
    const prepared = this.#prepare(snapshot);
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
        // A failure shows up when there is no snapshot left.
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
