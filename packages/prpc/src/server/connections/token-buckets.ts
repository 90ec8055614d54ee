import { BoundedMap } from '@dstack-cloud/runtime';

/** Names remembered per limit; the oldest is forgotten, which gives it a full bucket again. */
const MAX_BUCKETS = 65_536;

type Bucket = { tokens: number; at: number };

/** A token bucket for each name. */
export class TokenBuckets {
  readonly #perMs: number;
  readonly #capacity: number;
  readonly #now: () => number;
  readonly #onConsumed: (name: string, tokens: number) => void;
  readonly #buckets = new BoundedMap<string, Bucket>(MAX_BUCKETS);

  /**
   * @param now milliseconds that never go back
   * @param onConsumed told of what `take` took and, as a negative number, `give` gave back
   */
  constructor(
    perMinute: number,
    burst: number,
    now: () => number,
    onConsumed: (name: string, tokens: number) => void = () => undefined,
  ) {
    this.#perMs = perMinute / 60_000;
    this.#capacity = Math.max(1, burst);
    this.#now = now;
    this.#onConsumed = onConsumed;
  }

  has(name: string): boolean {
    return this.#level(name) >= 1;
  }

  /** Takes so many; false when there are less. Of what costs more than 1, what is there is gone all the same. */
  take(name: string, count = 1): boolean {
    const tokens = this.#level(name);
    const isTaken = tokens >= count;
    const left = isTaken ? tokens - count : count > 1 ? Math.min(0, tokens) : tokens;
    this.setLevel(name, left);
    if (left !== tokens) this.#onConsumed(name, tokens - left);
    return isTaken;
  }

  give(name: string): void {
    this.count(name, -1);
    this.#onConsumed(name, -1);
  }

  /** So many were taken elsewhere, whether or not they were there: the bucket may go below empty. */
  count(name: string, tokens: number): void {
    this.setLevel(name, this.#level(name) - tokens);
  }

  /** The names whose buckets are not full, and what is in these. */
  levels(): [name: string, tokens: number][] {
    return [...this.#buckets.keys()]
      .map((name): [string, number] => [name, this.#level(name)])
      .filter(([, tokens]) => tokens < this.#capacity);
  }

  setLevel(name: string, tokens: number): void {
    this.#buckets.set(name, { tokens: Math.min(this.#capacity, tokens), at: this.#now() });
  }

  #level(name: string): number {
    const bucket = this.#buckets.get(name);
    if (bucket === undefined) return this.#capacity;
    return Math.min(this.#capacity, bucket.tokens + (this.#now() - bucket.at) * this.#perMs);
  }
}
