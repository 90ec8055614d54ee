import type { Handshakes } from '../routes/choose-instances.ts';
import type { Instance } from '../routes/instance.ts';
import type { InstanceHealth } from '../routes/instance-health.ts';
import type { RoutingTable } from '../routes/routing-table.ts';

const ONLINE_SECONDS = 300;

export type FleetOptions = {
  readonly table: RoutingTable;
  readonly health: InstanceHealth;
  readonly handshakes: () => Handshakes;
  /** Unix seconds. */
  readonly now: () => number;
};

/** What an operator wants to know of an instance. */
export type Host = { readonly instance: Instance; readonly latestHandshake: number; readonly open: number };

/** The registered instances as operators see them. */
export class Fleet {
  readonly #options: FleetOptions;

  constructor(options: FleetOptions) {
    this.#options = options;
  }

  get registered(): number {
    return this.#options.table.size;
  }

  get online(): number {
    const { now } = this.#options;
    return this.hosts().filter(({ latestHandshake }) => now() - latestHandshake < ONLINE_SECONDS).length;
  }

  get openConnections(): number {
    return this.hosts().reduce((sum, { open }) => sum + open, 0);
  }

  hosts(): Host[] {
    return [...this.#options.table.all()].map((instance) => this.#hostOf(instance));
  }

  host(instanceId: string): Host | undefined {
    const instance = this.#options.table.get(instanceId);
    return instance && this.#hostOf(instance);
  }

  #hostOf(instance: Instance): Host {
    const { handshakes, health } = this.#options;
    const { publicKey, instanceId } = instance;
    return {
      instance,
      latestHandshake: handshakes().get(publicKey) ?? 0,
      open: health.open(instanceId),
    };
  }
}
