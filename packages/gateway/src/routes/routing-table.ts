import type { Instance } from './instance.ts';

/** Who is registered, by instance and by application; lookups cost the same however many there are. */
export class RoutingTable {
  readonly #instances = new Map<string, Instance>();
  readonly #apps = new Map<string, Map<string, Instance>>();
  readonly #byKey = new Map<string, string>();

  get size(): number {
    return this.#instances.size;
  }

  get(instanceId: string): Instance | undefined {
    return this.#instances.get(instanceId);
  }

  /** The instance that has this WireGuard key. */
  ofKey(publicKey: string): Instance | undefined {
    const id = this.#byKey.get(publicKey);
    return id === undefined ? undefined : this.#instances.get(id);
  }

  /** In the order of their ids, so that ties are broken alike on every node. */
  ofApp(appId: string): readonly Instance[] {
    const found = this.#apps.get(appId);
    if (found === undefined) return [];
    return [...found.values()].sort((one, other) => (one.instanceId < other.instanceId ? -1 : 1));
  }

  all(): IterableIterator<Instance> {
    return this.#instances.values();
  }

  put(instance: Instance): void {
    this.remove(instance.instanceId);
    this.#instances.set(instance.instanceId, instance);
    this.#byKey.set(instance.publicKey, instance.instanceId);
    const app = this.#apps.get(instance.appId) ?? new Map<string, Instance>();
    this.#apps.set(instance.appId, app.set(instance.instanceId, instance));
  }

  remove(instanceId: string): Instance | undefined {
    const instance = this.#instances.get(instanceId);
    if (instance === undefined) return undefined;
    this.#instances.delete(instanceId);
    if (this.#byKey.get(instance.publicKey) === instanceId) this.#byKey.delete(instance.publicKey);
    const app = this.#apps.get(instance.appId);
    app?.delete(instanceId);
    if (app?.size === 0) this.#apps.delete(instance.appId);
    return instance;
  }
}
