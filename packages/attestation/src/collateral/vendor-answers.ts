import { InFlight, LruCache } from '@dstack-cloud/runtime';
import { AttestationError } from '../errors.ts';

/** Failures remembered at a time. */
const MAX_FAILURES = 512;
/** What could not be had, or did not verify, is not asked for again at once. */
const RETRY_SECONDS = 15;

export interface VendorAnswersOptions {
  /** Unix seconds. */
  readonly now: () => number;
  readonly maxKept: number;
  /** Requests under way at a time. */
  readonly maxRunning: number;
  /** For how long what could not be had is not asked for again; default 15. */
  readonly retrySeconds?: number;
}

/** An answer, and the Unix time from which on it is not used. */
export interface Dated<V> {
  readonly value: V;
  readonly end: number;
}

/** How one answer is obtained. */
export interface Ask<V> {
  /** Looks where an earlier process may have left it. */
  readonly load?: () => Promise<Dated<V> | undefined>;
  /** Called before a request goes out; refuses by throwing. Whoever waits for a request under way needs no permit. */
  readonly permit?: (() => void) | undefined;
  readonly fetch: () => Promise<Dated<V>>;
}

/**
 * Answers of a vendor's service. One that many ask for at once is fetched once. It is kept only when it was verified to
 * be good: before that, nobody knows who wrote it. A failure is remembered for a moment, and so is that an answer was
 * bad.
 */
export class VendorAnswers<V extends object> {
  readonly #options: VendorAnswersOptions;
  readonly #kept: LruCache<string, Dated<V>>;
  readonly #failures = new LruCache<string, Dated<AttestationError>>(MAX_FAILURES);
  readonly #loading = new InFlight<string, V | undefined>();
  readonly #running = new InFlight<string, V>();
  /** All that was handed out, by what it was asked for as. */
  readonly #given = new WeakMap<V, { readonly key: string; readonly end: number }>();

  constructor(options: VendorAnswersOptions) {
    this.#options = options;
    this.#kept = new LruCache(options.maxKept);
  }

  /** What is kept and in force. */
  kept(key: string): V | undefined {
    const known = this.#kept.get(key);
    return known !== undefined && this.#isInForce(known) ? known.value : undefined;
  }

  /** Whether this very answer is kept, since it was found to be good. */
  isKept(value: V): boolean {
    const { key } = this.#given.get(value) ?? {};
    return key !== undefined && this.#kept.get(key)?.value === value;
  }

  /** @throws AttestationError; `collateral-unavailable` when too many requests are under way; what `permit` throws */
  async get(key: string, { load, permit, fetch }: Ask<V>): Promise<V> {
    const known = this.kept(key) ?? (load && (await this.#load(key, load)));
    if (known !== undefined) return known;
    const running = this.#running.get(key);
    if (running !== undefined) return running;
    const failure = this.#failures.get(key);
    if (failure !== undefined && this.#isInForce(failure)) throw failure.value;
    if (this.#running.size >= this.#options.maxRunning) {
      throw new AttestationError('collateral-unavailable', 'Too many collateral requests at once; try again');
    }
    permit?.();
    return this.#running.run(key, () => this.#fetch(key, fetch));
  }

  /** Keeps an answer that was found to be good, unless it is out of date. */
  good(value: V): (Dated<V> & { readonly key: string }) | undefined {
    const given = this.#given.get(value);
    if (given === undefined || this.isKept(value)) return undefined;
    const { key, end } = given;
    const dated = { value, end };
    if (!this.#isInForce(dated)) return undefined;
    this.#kept.set(key, dated);
    return { ...dated, key };
  }

  /** Drops an answer that was found to be bad. @returns its key, if it is one of these answers */
  bad(value: V): string | undefined {
    const { key } = this.#given.get(value) ?? {};
    if (key === undefined) return undefined;
    this.#given.delete(value);
    const kept = this.#kept.get(key);
    // A better one may have come meanwhile.
    if (kept !== undefined && kept.value !== value) return undefined;
    this.#kept.delete(key);
    const text =
      'The collateral that was served is not authentic or not in force; it is asked for again later';
    this.#fail(key, new AttestationError('collateral-invalid', text), RETRY_SECONDS);
    return key;
  }

  #load(key: string, load: NonNullable<Ask<V>['load']>): Promise<V | undefined> {
    return this.#loading.run(key, async () => {
      const found = await load();
      return found && this.#isInForce(found) ? this.#give(key, found) : undefined;
    });
  }

  async #fetch(key: string, fetch: Ask<V>['fetch']): Promise<V> {
    try {
      return this.#give(key, await fetch());
    } catch (error) {
      if (error instanceof AttestationError)
        this.#fail(key, error, this.#options.retrySeconds ?? RETRY_SECONDS);
      throw error;
    }
  }

  #give(key: string, { value, end }: Dated<V>): V {
    this.#given.set(value, { key, end });
    return value;
  }

  #fail(key: string, value: AttestationError, seconds: number): void {
    this.#failures.set(key, { value, end: this.#options.now() + seconds });
  }

  #isInForce({ end }: Dated<unknown>): boolean {
    return this.#options.now() < end;
  }
}
