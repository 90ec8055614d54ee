/** What one network has in the queue, the oldest first. */
type Waiting<T> = T[];

export type QueueLimits = {
  readonly max: number;
  /** Of them, those of one network. */
  readonly maxPerNetwork: number;
};

type Dropped<T> = { readonly item: T; readonly why: 'share' | 'full' };

/** What waits to be handed out, by network: one of each in turn, so that a crowd delays only itself. */
export class ConnectionQueue<T> {
  readonly #limits: QueueLimits;
  /** In the order of their next turns. */
  readonly #networks = new Map<string, Waiting<T>>();
  #size = 0;

  constructor(limits: QueueLimits) {
    this.#limits = limits;
  }

  /** @returns what has no room: this one, or the latest of the network that has most; and why */
  push(network: string, item: T): Dropped<T> | undefined {
    const own = this.#networks.get(network) ?? [];
    if (own.length >= this.#limits.maxPerNetwork) return { item, why: 'share' };
    let dropped: Dropped<T> | undefined;
    if (this.#size >= this.#limits.max) {
      let most: Waiting<T> | undefined;
      for (const waiting of this.#networks.values()) {
        if (most === undefined || waiting.length > most.length) most = waiting;
      }
      if (most === undefined || own.length + 1 >= most.length) return { item, why: 'full' };
      dropped = { item: most.pop()!, why: 'full' };
      this.#size -= 1;
    }
    own.push(item);
    this.#networks.set(network, own);
    this.#size += 1;
    return dropped;
  }

  shift(): T | undefined {
    for (const [network, waiting] of this.#networks) {
      const item = waiting.shift();
      // Behind the others.
      this.#networks.delete(network);
      if (waiting.length > 0) this.#networks.set(network, waiting);
      if (item === undefined) continue;
      this.#size -= 1;
      return item;
    }
    return undefined;
  }
}
