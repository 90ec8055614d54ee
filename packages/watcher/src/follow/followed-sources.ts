import type { Hex } from 'viem';
import type { Wanted } from '../chain/read-logs.ts';
import type { GovernanceEvent, SourceKind } from '../events/governance-event.ts';
import type { StateStore } from '../state/state-store.ts';
import type { Source } from '../state/watch-state.ts';
import { withLeftOut } from './changes-left-out.ts';

type Sources = Readonly<Record<string, Source>>;

/** The contracts that are followed: those of the store, and those that the next step adds to it. */
export class FollowedSources {
  readonly #store: StateStore;
  /** By lower-case address. */
  readonly #listed: Readonly<Record<string, SourceKind>>;
  #added: Sources = {};

  constructor(store: StateStore, listed: Readonly<Record<string, SourceKind>>) {
    this.#store = store;
    this.#listed = listed;
  }

  get all(): Sources {
    return { ...this.#store.state.sources, ...this.#added };
  }

  isListed(address: string): boolean {
    return (this.#added[address] ?? this.#store.state.sources[address])?.listed ?? false;
  }

  /** Those that were added are in the store now. */
  stored(): void {
    this.#added = {};
  }

  /** Contracts of the configuration that are not followed yet are read from the first block on. */
  addListed(target: number): void {
    const { sources, checkpoints } = this.#store.state;
    const first = checkpoints[0]!.number + 1;
    const added = Object.entries(this.#listed).flatMap(([address, kind]): [string, Source][] => {
      const known = sources[address];
      if (known?.listed && known.muted === undefined) return [];
      // One that was found is read once more: what came before it was registered is not known.
      const alertsFrom = known === undefined ? target + 1 : known.next;
      return [[address, { kind, next: first, alertsFrom, listed: true }]];
    });
    for (const [address, source] of Object.entries(sources)) {
      if (source.kind === 'app' && source.listed && !Object.hasOwn(this.#listed, address))
        added.push([address, { ...source, listed: false }]);
    }
    this.#add(added);
  }

  /** Timelocks and Safes that are met are followed too. */
  addGovernors(found: readonly { readonly address: Hex; readonly kind: SourceKind }[], target: number): void {
    const next = this.#store.state.checkpoints[0]!.number + 1;
    this.#add(
      found.map(({ address, kind }) => [address, { kind, next, alertsFrom: target + 1, listed: true }]),
    );
  }

  #add(added: readonly (readonly [string, Source])[]): void {
    if (added.length > 0) this.#added = { ...this.#added, ...Object.fromEntries(added) };
  }
}

/** The sources of one step after it. */
export function advanced(
  sources: Sources,
  { addresses, from, to }: Pick<Wanted, 'addresses' | 'from' | 'to'>,
  {
    muted,
    leftOut,
    epochs,
  }: {
    readonly muted: ReadonlyMap<string, string>;
    readonly leftOut: ReadonlySet<GovernanceEvent>;
    /** Offsets of the policy epochs, when they were read with it. */
    readonly epochs: ReadonlyMap<string, number> | undefined;
  },
): Record<string, Source> {
  const changes = [...leftOut].filter(({ name }) => name === 'PolicyChanged');
  return Object.fromEntries(
    addresses.map((address) => {
      const { epochOffset: before, leftOut: earlier, ...rest } = sources[address]!;
      const epochOffset = epochs === undefined ? before : epochs.get(address);
      const why = muted.get(address);
      const count = changes.filter((event) => event.address === address).length;
      // Nobody compares what a stranger's contract counts.
      const parts = rest.listed ? withLeftOut(earlier, { from, to, count }) : [];
      return [
        address,
        {
          ...rest,
          next: to + 1,
          ...(epochOffset === undefined ? {} : { epochOffset }),
          ...(parts.length === 0 ? {} : { leftOut: parts }),
          ...(why === undefined ? {} : { muted: why }),
        },
      ];
    }),
  );
}
