import { rank } from '../alerts/alert.ts';
import type { StateStore } from '../state/state-store.ts';
import type { Pending } from '../state/watch-state.ts';
import type { Webhook } from './webhook.ts';

const FIRST_PAUSE_SECONDS = 1;
const LONGEST_PAUSE_SECONDS = 300;

/** A message as receivers get it: the alert, whose chain it is of, and its place in the order. */
export type Message = Pending['alert'] & {
  readonly sequence: number;
  readonly kms: string;
  readonly chainId: number | null;
};

type DeliveryOptions = {
  readonly store: StateStore;
  readonly write: (message: Message) => void;
  readonly webhook: Webhook | undefined;
  /** Unix seconds. */
  readonly now: () => number;
  readonly onFailure: (why: string) => void;
};

/**
 * Brings what waits to its receivers. A message leaves the store after it arrived, so a kill between the two repeats it:
 * its id is the same then.
 */
export class Delivery {
  readonly #options: DeliveryOptions;
  /** By sequence: failures, and the time of the next attempt. */
  readonly #later = new Map<number, { readonly failures: number; readonly at: number }>();
  #logging: Promise<void> | undefined;
  #posting: Promise<void> | undefined;

  constructor(options: DeliveryOptions) {
    this.#options = options;
  }

  /** Starts unless it runs already; failures are told, and tried again later. */
  run(): Promise<void> {
    this.#logging ??= this.#log().finally(() => {
      this.#logging = undefined;
    });
    // By itself: a receiver that hangs must not keep messages from the log.
    this.#posting ??= this.#post().finally(() => {
      this.#posting = undefined;
    });
    return Promise.all([this.#logging, this.#posting]).then(() => undefined);
  }

  /** Seconds until something is to be tried again; undefined when nothing waits. */
  get nextInSeconds(): number | undefined {
    const { store, now } = this.#options;
    const times = store.state.outbox.map(({ sequence }) => this.#later.get(sequence)?.at ?? now());
    return times.length === 0 ? undefined : Math.max(0, Math.min(...times) - now());
  }

  async #post(): Promise<void> {
    const { webhook, now, onFailure } = this.#options;
    if (!webhook) return;
    const tried = new Set<number>();
    for (;;) {
      const pending = this.#next(tried);
      if (pending === undefined) return;
      const { sequence } = pending;
      const later = this.#later.get(sequence);
      tried.add(sequence);
      try {
        await webhook.post(JSON.stringify(this.#message(pending)), now());
      } catch (error) {
        const failures = (later?.failures ?? 0) + 1;
        this.#later.set(sequence, { failures, at: now() + pauseAfter(failures) });
        onFailure(error instanceof Error ? error.message : String(error));
        // Who does not take this one takes no other, but for a message that is refused for itself.
        if (failures < PATIENCE) return;
        continue;
      }
      this.#later.delete(sequence);
      await this.#arrived([sequence], 'webhook');
    }
  }

  /** The gravest, and of these the oldest: what strangers can cause without end does not go before an alarm. */
  #next(tried: ReadonlySet<number>): Pending | undefined {
    const { store, now } = this.#options;
    let next: Pending | undefined;
    for (const pending of store.state.outbox) {
      const { sequence, to, alert } = pending;
      const isDue = (this.#later.get(sequence)?.at ?? 0) <= now();
      if (!to.includes('webhook') || tried.has(sequence) || !isDue) continue;
      if (next === undefined || rank(alert.severity) > rank(next.alert.severity)) next = pending;
    }
    return next;
  }

  async #log(): Promise<void> {
    const { store, write } = this.#options;
    const waiting = store.state.outbox.filter(({ to }) => to.includes('log'));
    if (waiting.length === 0) return;
    for (const pending of waiting) write(this.#message(pending));
    await this.#arrived(
      waiting.map(({ sequence }) => sequence),
      'log',
    );
  }

  async #arrived(sequences: readonly number[], where: 'log' | 'webhook'): Promise<void> {
    const done = new Set(sequences);
    await this.#options.store.update((state) => ({
      ...state,
      outbox: state.outbox.flatMap((pending) => {
        if (!done.has(pending.sequence)) return [pending];
        const to = pending.to.filter((one) => one !== where);
        return to.length === 0 ? [] : [{ ...pending, to }];
      }),
    }));
  }

  #message({ alert, sequence }: Pending): Message {
    const { kms, chainId } = this.#options.store.state;
    return { ...alert, sequence, kms, chainId };
  }
}

/** Failures of one message after which the others are tried all the same. */
const PATIENCE = 3;

/** Twice as long after each failure, and not at the same moment as everybody else. */
function pauseAfter(failures: number): number {
  const pause = Math.min(FIRST_PAUSE_SECONDS * 2 ** Math.min(failures - 1, 12), LONGEST_PAUSE_SECONDS);
  return pause * (0.75 + Math.random() / 2);
}
