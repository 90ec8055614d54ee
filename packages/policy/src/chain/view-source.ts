import { performance } from 'node:perf_hooks';
import type { ChainView } from './read-view.ts';

/** A view and whether it was read before the request came. */
export type ServedView = { readonly view: ChainView; readonly reused: boolean };

/** Serves views of the chain and shares the reading of them among requests. */
export class ViewSource {
  readonly #read: () => Promise<ChainView>;
  readonly #reuseMs: number;
  #latest: { view: ChainView; at: number } | undefined;
  #running: Promise<ChainView> | undefined;
  #queued: Promise<ChainView> | undefined;

  /** @param reuseMs how long a view may serve further requests; 0 for never */
  constructor(read: () => Promise<ChainView>, reuseMs: number) {
    this.#read = read;
    this.#reuseMs = reuseMs;
  }

  /** The latest view that was read. */
  get latest(): ChainView | undefined {
    return this.#latest?.view;
  }

  /** A view that may be up to `reuseMs` old; from half of that age on it is renewed in the background. */
  async current(): Promise<ServedView> {
    const age = this.#latest ? performance.now() - this.#latest.at : Number.POSITIVE_INFINITY;
    if (!this.#latest || age >= this.#reuseMs) return { view: await this.fresh(), reused: false };
    if (age >= this.#reuseMs / 2 && !this.#running) {
      // A failure shows up when the view is too old to be reused.
      this.#start().catch(() => {});
    }
    return { view: this.#latest.view, reused: true };
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
    const startedAt = performance.now();
    const running = this.#read()
      .then((view) => {
        this.#latest = { view, at: startedAt };
        return view;
      })
      .finally(() => {
        this.#running = undefined;
      });
    this.#running = running;
    return running;
  }
}
