import { BoundedMap } from '@dstack-cloud/runtime';
import type { DecisionCache } from '../decision-cache.ts';
import type { Block } from '../rpc/block.ts';
import type { ChainSnapshot } from '../snapshot/read-snapshot.ts';
import type { Revalidation } from './revalidation.ts';

/** What nobody asked for in this time is not revalidated. */
const RECENT_MS = 60_000;
/** Snapshots whose cached decisions were revalidated, or could not be, and are not tried again. */
const MAX_SNAPSHOTS = 8;

/** How often permissions outlived their block. */
export type RevalidationCounts = { readonly revalidated: number; readonly dropped: number };

/** Brings recently used decisions to the blocks of a new snapshot, before requests see it. */
export class Revalidator {
  readonly #cache: DecisionCache;
  readonly #revalidate: Revalidation;
  readonly #latest: { head?: Block; finalized?: Block } = {};
  readonly #snapshots = new BoundedMap<string, Promise<void> | null>(MAX_SNAPSHOTS);
  #revalidated = 0;
  #dropped = 0;

  constructor(cache: DecisionCache, revalidate: Revalidation) {
    this.#cache = cache;
    this.#revalidate = revalidate;
  }

  get counts(): RevalidationCounts {
    return { revalidated: this.#revalidated, dropped: this.#dropped };
  }

  /** @returns when it is done, or could not be done; undefined when there is nothing to wait for */
  prepare(snapshot: ChainSnapshot): Promise<void> | undefined {
    const name = `${snapshot.head.hash}/${snapshot.finalized.hash}`;
    const before = this.#snapshots.get(name);
    if (before !== undefined) return before ?? undefined;
    const roles =
      snapshot.head === snapshot.finalized ? (['head'] as const) : (['head', 'finalized'] as const);
    const work = roles.flatMap((role) => this.#bring(snapshot, role) ?? []);
    const all = work.length === 0 ? null : Promise.all(work).then(() => void this.#snapshots.set(name, null));
    this.#snapshots.set(name, all);
    return all ?? undefined;
  }

  #bring(snapshot: ChainSnapshot, role: 'head' | 'finalized'): Promise<void> | undefined {
    const from = this.#latest[role];
    const to = snapshot[role];
    // A finalized block was the head before: what was found out then is known.
    const requests =
      !from || from.hash === to.hash
        ? []
        : this.#cache
            .recent(from.hash, RECENT_MS)
            .filter(({ call }) => this.#cache.known(to.hash, call) === undefined);
    if (!from || requests.length === 0) {
      this.#latest[role] = to;
      return undefined;
    }
    return this.#revalidate(snapshot, from, to, requests).then(
      (permissions) => {
        for (const request of requests) {
          const decision = permissions.get(request.call);
          if (decision) this.#cache.write(to.hash, request, decision);
        }
        this.#latest[role] = to;
        this.#revalidated += permissions.size;
        this.#dropped += requests.length - permissions.size;
      },
      () => {
        // Requests will ask for themselves, and hear what is wrong.
        this.#dropped += requests.length;
      },
    );
  }
}
