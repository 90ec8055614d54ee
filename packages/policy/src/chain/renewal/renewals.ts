import { BoundedMap } from '@dstack-cloud/runtime';
import type { PermissionBook } from '../permission-book.ts';
import type { Block } from '../rpc/block.ts';
import type { ChainView } from '../view/read-view.ts';
import type { Renewal } from './renewal.ts';

/** What nobody asked for in this time is not renewed. */
const RECENT_MS = 60_000;
/** Views whose permissions were renewed, or could not be, and are not tried again. */
const MAX_VIEWS = 8;

/** How often permissions outlived their block. */
export type RenewalCounts = { readonly renewed: number; readonly dropped: number };

/** Brings the permissions of late to the blocks of a new view, before requests come to see it. */
export class Renewals {
  readonly #book: PermissionBook;
  readonly #renew: Renewal;
  readonly #latest: { head?: Block; settled?: Block } = {};
  readonly #views = new BoundedMap<string, Promise<void> | null>(MAX_VIEWS);
  #renewed = 0;
  #dropped = 0;

  constructor(book: PermissionBook, renew: Renewal) {
    this.#book = book;
    this.#renew = renew;
  }

  get counts(): RenewalCounts {
    return { renewed: this.#renewed, dropped: this.#dropped };
  }

  /** @returns when it is done, or could not be done; undefined when there is nothing to wait for */
  prepare(view: ChainView): Promise<void> | undefined {
    const name = `${view.head.hash}/${view.settled.hash}`;
    const before = this.#views.get(name);
    if (before !== undefined) return before ?? undefined;
    const roles = view.head === view.settled ? (['head'] as const) : (['head', 'settled'] as const);
    const work = roles.flatMap((role) => this.#bring(view, role) ?? []);
    const all = work.length === 0 ? null : Promise.all(work).then(() => void this.#views.set(name, null));
    this.#views.set(name, all);
    return all ?? undefined;
  }

  #bring(view: ChainView, role: 'head' | 'settled'): Promise<void> | undefined {
    const from = this.#latest[role];
    const to = view[role];
    // A settled block was the head before: what was found out then is known.
    const requests =
      !from || from.hash === to.hash
        ? []
        : this.#book
            .recent(from.hash, RECENT_MS)
            .filter(({ call }) => this.#book.known(to.hash, call) === undefined);
    if (!from || requests.length === 0) {
      this.#latest[role] = to;
      return undefined;
    }
    return this.#renew(view, from, to, requests).then(
      (permissions) => {
        for (const request of requests) {
          const verdict = permissions.get(request.call);
          if (verdict) this.#book.write(to.hash, request, verdict);
        }
        this.#latest[role] = to;
        this.#renewed += permissions.size;
        this.#dropped += requests.length - permissions.size;
      },
      () => {
        // Requests will ask for themselves, and hear what is wrong.
        this.#dropped += requests.length;
      },
    );
  }
}
