import type { GovernanceEvent } from '../events/governance-event.ts';
import type { StateStore } from '../state/state-store.ts';
import type { AppFlags } from '../state/watch-state.ts';
import { applyApp, applyKms } from './apply-contract.ts';
import { applySafe } from './apply-safe.ts';
import { applyTimelock } from './apply-timelock.ts';
import { emptyApp, emptyKms, emptySafe, emptyTimelock } from './empty.ts';
import type { AppModel, KmsModel, SafeModel, TimelockModel } from './model.ts';

/** What the events of the followed contracts add up to. Keys are lower-case addresses. */
export class GovernanceModel {
  readonly kms: KmsModel = emptyKms();
  readonly apps: Map<string, AppModel> = new Map();
  readonly timelocks: Map<string, TimelockModel> = new Map();
  readonly safes: Map<string, SafeModel> = new Map();
  /** In the order in which they were applied. */
  readonly events: GovernanceEvent[] = [];
  readonly #ids = new Set<string>();
  readonly #byTransaction = new Map<string, GovernanceEvent[]>();
  readonly #changes = new Map<string, number>();
  readonly #perContract = new Map<string, number>();

  readonly #flags: ReadonlyMap<string, AppFlags>;

  /** @param flags that apps have been set up with, by address */
  constructor(flags: ReadonlyMap<string, AppFlags> = new Map()) {
    this.#flags = flags;
  }

  /** Events that are on the chain now, in its order. */
  static of({ entries, state }: Pick<StateStore, 'entries' | 'state'>): GovernanceModel {
    const { orphans, sources } = state;
    const live = new Map<string, GovernanceEvent>();
    for (const entry of entries) {
      if (entry.type === 'event') live.set(entry.event.id, entry.event);
      else if (entry.type === 'withdrawn') live.delete(entry.id);
      else {
        const { id, block, blockHash, index, time } = entry;
        live.set(id, { ...live.get(id)!, block, blockHash, index, time });
      }
    }
    const model = new GovernanceModel(
      new Map(
        Object.entries(sources).flatMap(([address, { flags }]) =>
          flags === undefined ? [] : [[address, flags]],
        ),
      ),
    );
    const sorted = [...live.values()]
      .filter(({ id }) => !(id in orphans))
      .sort((a, b) => a.block - b.block || a.index - b.index);
    for (const event of sorted) model.apply(event);
    return model;
  }

  has(id: string): boolean {
    return this.#ids.has(id);
  }

  /** Events of blocks after this one. */
  after(block: number): GovernanceEvent[] {
    return this.events.filter((event) => event.block > block);
  }

  /** What else the transaction did. */
  sameTransaction(tx: string): readonly GovernanceEvent[] {
    return this.#byTransaction.get(tx) ?? [];
  }

  /** How often a contract said that its policy changed. */
  policyChanges(address: string): number {
    return this.#changes.get(address) ?? 0;
  }

  /** How many events of a contract are known. */
  eventsOf(address: string): number {
    return this.#perContract.get(address) ?? 0;
  }

  apply(event: GovernanceEvent): void {
    const { id, source, address, tx, name } = event;
    this.events.push(event);
    this.#ids.add(id);
    const together = this.#byTransaction.get(tx);
    if (together) together.push(event);
    else this.#byTransaction.set(tx, [event]);
    this.#perContract.set(address, this.eventsOf(address) + 1);
    if (name === 'PolicyChanged') this.#changes.set(address, this.policyChanges(address) + 1);
    if (source === 'kms') applyKms(this, event);
    else if (source === 'app') applyApp(this.app(address), event);
    else if (source === 'timelock') applyTimelock(this.timelock(address), event);
    else applySafe(this.safe(address), event);
  }

  app(address: string): AppModel {
    return made(this.apps, address, () => ({ ...emptyApp(), ...this.#flags.get(address) }));
  }

  timelock(address: string): TimelockModel {
    return made(this.timelocks, address, emptyTimelock);
  }

  safe(address: string): SafeModel {
    return made(this.safes, address, emptySafe);
  }
}

function made<T>(map: Map<string, T>, key: string, make: () => T): T {
  const found = map.get(key) ?? make();
  map.set(key, found);
  return found;
}
