import { isWireGuardKey } from '@dstack-cloud/wireguard';
import type { Instance, PortPolicy } from '../routes/instance.ts';
import { RoutingTable } from '../routes/routing-table.ts';
import type { Entry, StateStore } from '../state/state-store.ts';
import { watchRecords } from '../state/watch-records.ts';
import type { AddressPlan } from '../wireguard/address-plan.ts';
import type { WireGuardPeer } from '../wireguard/config-text.ts';
import { RegisterError } from './register-error.ts';
import { instanceFromJson, instanceToJson } from './stored-instance.ts';

/** Who registers, as its verified certificate says, and what it asks for. */
export type Registration = {
  readonly appId: string;
  readonly instanceId: string;
  readonly composeHash: string;
  readonly publicKey: string;
  readonly portPolicy?: PortPolicy;
};

/** Where tunnels are made and ended. */
type Tunnels = {
  set(peer: WireGuardPeer): void;
  remove(publicKey: string): void;
};

export type RegistryOptions = {
  readonly store: StateStore;
  readonly plan: AddressPlan;
  readonly tunnels: Tunnels;
  /** WireGuard key of the gateway, which no guest may have. */
  readonly ownPublicKey: string;
  /** Unix seconds. */
  readonly now: () => number;
  /** Whether other nodes give addresses too, from ranges of their own in the same network. */
  readonly isShared?: boolean;
};

const INSTANCE = 'inst/';
const ADDRESS = 'ip/';
const ID = /^[0-9a-f]{40}$/;
/** Others may have taken what was free: another try with what is true now. */
const MAX_TRIES = 5;

/** Who is registered: in memory for routing, in the store for ever, in WireGuard as peers. */
export class Registry {
  readonly table: RoutingTable = new RoutingTable();
  readonly #options: RegistryOptions;
  readonly #revisions = new Map<string, number>();
  readonly #addresses = new Map<string, string>();
  /** When each instance asked last, or was read: unchanged registrations are not written. Unix seconds. */
  readonly #askedAt = new Map<string, number>();
  /** Where the search for a free address goes on: whole ranges are not walked for each guest. */
  #free: Iterator<string>;

  #onDamaged: (key: string, why: string) => void = () => undefined;
  #stop: () => void = () => undefined;

  private constructor(options: RegistryOptions) {
    this.#options = options;
    this.#free = options.plan.clients()[Symbol.iterator]();
  }

  /**
   * Reads the registrations from the store. A record that cannot be read is left out and told; it ends nothing.
   * @param onDamaged a key of the store and what is wrong with its record
   */
  static async load(
    options: RegistryOptions,
    onDamaged: (key: string, why: string) => void,
  ): Promise<Registry> {
    const registry = new Registry(options);
    registry.#onDamaged = onDamaged;
    registry.#stop = await watchRecords(options.store, INSTANCE, {
      onAll: (entries, revision) => registry.#takeAll(entries, revision),
      onOne: (key, entry, revision) => registry.#takeOne(key, entry, revision),
      onError: (error) => onDamaged(INSTANCE, `the store cannot be read: ${error.message}`),
    });
    // While nobody listened, guests may have asked.
    for (const { instanceId } of registry.table.all()) registry.#askedAt.set(instanceId, options.now());
    return registry;
  }

  /** Follows the store no longer. */
  close(): void {
    this.#stop();
  }

  /**
   * Registers an instance, or says again what it was told. Asked again without a change, nothing is written.
   * @throws RegisterError for a request that must not be fulfilled, GatewayError `state` when the store fails
   */
  async register(request: Registration): Promise<Instance> {
    for (let tries = 0; ; tries++) {
      const known = this.#check(request);
      const portPolicy =
        request.portPolicy ?? (known?.composeHash === request.composeHash ? known.portPolicy : undefined);
      const ip = known && this.#mayKeep(known.ip) ? known.ip : this.#freeAddress();
      const { appId, instanceId, composeHash, publicKey } = request;
      const isKnown = known !== undefined && known.publicKey === publicKey && known.ip === ip;
      if (isKnown && known.composeHash === composeHash && samePolicy(known.portPolicy, portPolicy)) {
        this.#askedAt.set(instanceId, this.#options.now());
        return known;
      }
      const instance: Instance = {
        instanceId,
        appId,
        composeHash,
        ip,
        publicKey,
        registeredAt: this.#options.now(),
        ...(portPolicy && { portPolicy }),
      };
      if (await this.#write(instance, known)) return instance;
      if (tries >= MAX_TRIES)
        throw new RegisterError('unavailable', 'The registration changes all the time; try again');
    }
  }

  /**
   * Keeps what the agent of an instance said about its ports, if the instance is still the one that was asked and has said
   * nothing itself.
   * @returns whether it is kept
   */
  async learnPolicy(asked: Instance, portPolicy: PortPolicy): Promise<boolean> {
    const known = this.table.get(asked.instanceId);
    if (known === undefined || known.portPolicy !== undefined) return false;
    if (known.composeHash !== asked.composeHash || known.publicKey !== asked.publicKey) return false;
    return await this.#write({ ...known, portPolicy }, known);
  }

  /** Ends a registration. @returns whether there was one */
  async remove(instanceId: string): Promise<boolean> {
    const known = this.table.get(instanceId);
    if (known === undefined) return false;
    const key = INSTANCE + instanceId;
    const revision = await this.#options.store.commit(
      [{ key, revision: this.#revisions.get(instanceId) ?? 0 }],
      [
        { key, value: undefined },
        { key: ADDRESS + known.ip, value: undefined },
      ],
    );
    if (revision === undefined) return false;
    this.#forget(known);
    return true;
  }

  /**
   * Removes who had no handshake for so long and did not register in that time either, at any node: signs of life are
   * written down when half of that time is over.
   * @returns who was removed
   */
  async recycle(olderThan: number, handshakes: ReadonlyMap<string, number>): Promise<readonly Instance[]> {
    const seenAt = ({ instanceId, publicKey }: Instance): number =>
      Math.max(this.#askedAt.get(instanceId) ?? 0, handshakes.get(publicKey) ?? 0);
    const half = (olderThan + this.#options.now()) / 2;
    for (const instance of [...this.table.all()]) {
      const { registeredAt } = instance;
      if (registeredAt < half && seenAt(instance) > half)
        await this.#write({ ...instance, registeredAt: seenAt(instance) }, instance);
    }
    const old = [...this.table.all()].filter(
      (instance) => Math.max(instance.registeredAt, seenAt(instance)) < olderThan,
    );
    const removed: Instance[] = [];
    for (const instance of old) if (await this.remove(instance.instanceId)) removed.push(instance);
    return removed;
  }

  /** What WireGuard should know, in the order of the instance ids. */
  peers(): readonly WireGuardPeer[] {
    return [...this.table.all()]
      .sort((one, other) => (one.instanceId < other.instanceId ? -1 : 1))
      .map(({ publicKey, ip }) => ({ publicKey, ip }));
  }

  #check({ appId, instanceId, composeHash, publicKey }: Registration): Instance | undefined {
    const { table } = this;
    if (!ID.test(appId)) throw new RegisterError('invalid', 'The app id is not 20 bytes');
    if (!ID.test(instanceId))
      throw new RegisterError(
        'invalid',
        'The instance id is not 20 bytes: applications without one cannot use the gateway',
      );
    if (!/^[0-9a-f]{64}$/.test(composeHash))
      throw new RegisterError('invalid', 'The compose hash is not 32 bytes');
    if (!isWireGuardKey(publicKey) || publicKey === this.#options.ownPublicKey)
      throw new RegisterError('invalid', 'client_public_key is not a WireGuard public key');
    const holder = table.ofKey(publicKey);
    if (holder !== undefined && holder.instanceId !== instanceId)
      throw new RegisterError('denied', 'WireGuard public key is already registered to another instance');
    const known = table.get(instanceId);
    if (known !== undefined && known.appId !== appId)
      throw new RegisterError('denied', 'The instance is registered by another application');
    return known;
  }

  async #write(instance: Instance, known: Instance | undefined): Promise<boolean> {
    const { store, tunnels } = this.#options;
    const { instanceId, ip, publicKey } = instance;
    const key = INSTANCE + instanceId;
    const isNewAddress = known?.ip !== ip;
    // Reserved at once, so that two who register now do not both search from here.
    this.#addresses.set(ip, instanceId);
    let revision: number | undefined;
    try {
      revision = await store.commit(
        [
          { key, revision: this.#revisions.get(instanceId) ?? 0 },
          ...(isNewAddress ? [{ key: ADDRESS + ip, revision: 0 }] : []),
        ],
        [
          { key, value: instanceToJson(instance) },
          ...(isNewAddress ? [{ key: ADDRESS + ip, value: instanceId }] : []),
          ...(isNewAddress && known !== undefined ? [{ key: ADDRESS + known.ip, value: undefined }] : []),
        ],
      );
    } finally {
      if (revision === undefined && isNewAddress && this.#addresses.get(ip) === instanceId)
        this.#addresses.delete(ip);
    }
    if (revision === undefined) {
      await this.#readAgain(instanceId, ip);
      return false;
    }
    const askedAt = this.#askedAt.get(instanceId) ?? 0;
    if (known !== undefined) this.#forget(known, publicKey);
    this.#remember(instance, revision);
    this.#sawAgain(instanceId, askedAt);
    tunnels.set({ publicKey, ip });
    return true;
  }

  #mayKeep(ip: string): boolean {
    const { plan, isShared = false } = this.#options;
    return isShared ? plan.isGuests(ip) : plan.isFree(ip);
  }

  async #readAgain(instanceId: string, ip: string): Promise<void> {
    const { store } = this.#options;
    const [{ entries, revision }, { entries: holders }] = await Promise.all([
      store.list(INSTANCE + instanceId),
      store.list(ADDRESS + ip),
    ]);
    const key = INSTANCE + instanceId;
    this.#takeOne(
      key,
      entries.find((entry) => entry.key === key),
      revision,
    );
    // Another node gave it away, and what it says of its instance may still be under way.
    const holder = holders.find((entry) => entry.key === ADDRESS + ip);
    if (holder !== undefined) this.#addresses.set(ip, holder.value);
  }

  #takeAll(entries: readonly Entry[], revision: number): void {
    const present = new Set(entries.map(({ key }) => key));
    for (const instance of [...this.table.all()])
      if (!present.has(INSTANCE + instance.instanceId))
        this.#takeOne(INSTANCE + instance.instanceId, undefined, revision);
    for (const entry of entries) this.#takeOne(entry.key, entry, entry.revision);
  }

  /** What the store says of one instance, by whomever it was written; older words than those known are left out. */
  #takeOne(key: string, entry: Entry | undefined, revision: number): void {
    const instanceId = key.slice(INSTANCE.length);
    if (revision <= (this.#revisions.get(instanceId) ?? 0)) return;
    const before = this.table.get(instanceId);
    const askedAt = this.#askedAt.get(instanceId) ?? 0;
    const next = entry && instanceFromJson(entry.value);
    const keptKey = typeof next === 'object' && next.instanceId === instanceId ? next.publicKey : undefined;
    if (before !== undefined) this.#forget(before, keptKey);
    if (entry !== undefined) this.#take(entry, this.#onDamaged);
    this.#sawAgain(instanceId, askedAt);
  }

  /** Keeps when it asked here, over a record that is of another node or of another reason. */
  #sawAgain(instanceId: string, askedAt: number): void {
    const written = this.#askedAt.get(instanceId);
    if (written !== undefined && written < askedAt) this.#askedAt.set(instanceId, askedAt);
  }

  #take(entry: Entry, onDamaged: (key: string, why: string) => void): void {
    const instance = instanceFromJson(entry.value);
    const why = typeof instance === 'string' ? instance : this.#conflictOf(entry.key, instance);
    if (typeof instance === 'string' || why !== undefined) {
      onDamaged(entry.key, why ?? '');
      return;
    }
    this.#remember(instance, entry.revision);
    this.#options.tunnels.set({ publicKey: instance.publicKey, ip: instance.ip });
  }

  #conflictOf(key: string, { instanceId, publicKey, ip }: Instance): string | undefined {
    if (key !== INSTANCE + instanceId) return 'it is of another instance';
    if (this.table.ofKey(publicKey) !== undefined) return 'its key is that of another instance';
    if (!this.#options.plan.isGuests(ip)) return 'its address is not one for guests';
    const holder = this.#addresses.get(ip);
    // One that is only reserved here for a registration under way is free for who has it in the store.
    if (holder !== undefined && holder !== instanceId && this.table.get(holder)?.ip === ip)
      return 'its address is that of another instance';
    return undefined;
  }

  #remember(instance: Instance, revision: number): void {
    this.table.put(instance);
    this.#revisions.set(instance.instanceId, revision);
    this.#addresses.set(instance.ip, instance.instanceId);
    this.#askedAt.set(instance.instanceId, instance.registeredAt);
  }

  #forget({ instanceId, ip, publicKey }: Instance, keptKey?: string): void {
    this.table.remove(instanceId);
    this.#revisions.delete(instanceId);
    this.#askedAt.delete(instanceId);
    if (this.#addresses.get(ip) === instanceId) this.#addresses.delete(ip);
    if (publicKey !== keptKey) this.#options.tunnels.remove(publicKey);
  }

  #freeAddress(): string {
    for (let round = 0; round < 2; round++) {
      for (let next = this.#free.next(); !next.done; next = this.#free.next())
        if (!this.#addresses.has(next.value)) return next.value;
      this.#free = this.#options.plan.clients()[Symbol.iterator]();
    }
    throw new RegisterError('unavailable', 'IP pool exhausted: all addresses of client_ip_range are taken');
  }
}

function samePolicy(one: PortPolicy | undefined, other: PortPolicy | undefined): boolean {
  return JSON.stringify(one) === JSON.stringify(other);
}
