import { createHash } from 'node:crypto';
import { isWireGuardKey } from '@dstack-cloud/wireguard';
import { z } from 'zod';
import type { Held, StateStore } from '../state/state-store.ts';
import { watchRecords } from '../state/watch-records.ts';

const PREFIX = 'node/';
const RETRY_MS = 1_000;

/** What guests need to know of a node for their tunnel to it. */
export type GatewayNode = {
  readonly publicKey: string;
  /** In the tunnel's network, with prefix. */
  readonly ip: string;
  readonly endpoint: string;
};

const schema = z.object({
  version: z.literal(1),
  public_key: z.string().refine(isWireGuardKey, 'not a WireGuard key'),
  ip: z.cidrv4(),
  endpoint: z.string().regex(/^[A-Za-z0-9.:[\]-]{1,255}:\d{1,5}$/),
});

export type NodeListOptions = {
  readonly store: StateStore;
  readonly own: GatewayNode;
  readonly onError: (message: string) => void;
};

/** The gateways of one state: each keeps a record while it lives, and guests get a tunnel to each. */
export class NodeList {
  readonly #options: NodeListOptions;
  readonly #nodes = new Map<string, GatewayNode>();
  #held: Held | undefined;
  #timer: NodeJS.Timeout | undefined;
  #stop: () => void = () => undefined;
  #isOver = false;

  private constructor(options: NodeListOptions) {
    this.#options = options;
  }

  static async join(options: NodeListOptions): Promise<NodeList> {
    const list = new NodeList(options);
    const { store, onError } = options;
    await list.#announce();
    list.#stop = await watchRecords(store, PREFIX, {
      onAll: (entries) => {
        list.#nodes.clear();
        for (const { key, value } of entries) list.#take(key, value);
      },
      onOne: (key, entry) => list.#take(key, entry?.value),
      onError: (error) => onError(error.message),
    });
    return list;
  }

  /** Ourselves, and then the others that live, in the order of their keys. */
  all(): readonly GatewayNode[] {
    const { own } = this.#options;
    const others = [...this.#nodes.values()].filter(({ publicKey }) => publicKey !== own.publicKey);
    return [own, ...others.sort((one, other) => (one.publicKey < other.publicKey ? -1 : 1))];
  }

  async leave(): Promise<void> {
    this.#isOver = true;
    clearTimeout(this.#timer);
    this.#stop();
    await this.#held?.release();
  }

  async #announce(): Promise<void> {
    const { store, own } = this.#options;
    const { publicKey, ip, endpoint } = own;
    const id = createHash('sha256').update(publicKey).digest('hex').slice(0, 40);
    const value = JSON.stringify({ version: 1, public_key: publicKey, ip, endpoint });
    this.#held = await store.hold(PREFIX + id, value, { replace: true });
    this.#held?.lost.addEventListener('abort', () => this.#announceAgain(), { once: true });
  }

  #announceAgain(): void {
    if (this.#isOver) return;
    void this.#held?.release();
    this.#announce().catch((error: Error) => {
      this.#options.onError(`this node cannot say that it lives: ${error.message}`);
      this.#timer = setTimeout(() => this.#announceAgain(), RETRY_MS);
    });
  }

  #take(key: string, value: string | undefined): void {
    this.#nodes.delete(key);
    if (value === undefined) return;
    try {
      const { public_key: publicKey, ip, endpoint } = schema.parse(JSON.parse(value));
      this.#nodes.set(key, { publicKey, ip, endpoint });
    } catch (error) {
      this.#options.onError(`the record ${key} cannot be used: ${(error as Error).message}`);
    }
  }
}
