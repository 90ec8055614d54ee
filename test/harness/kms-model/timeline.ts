/** Which states of the chain somebody may have seen who asked at some time. */

/** A permission must hold at the head and this many blocks below it. */
export const CONFIRMATIONS = 2;

/** What the contracts say at one block. */
export type Policy = {
  readonly apps: readonly boolean[];
  readonly isImageAllowed: boolean;
  /** By number of the key service. */
  readonly services: readonly boolean[];
};

/** What one reading of the chain shows: the policy at its head and at the finalized block. */
export type View = { readonly head: number; readonly policies: readonly [head: Policy, finalized: Policy] };

/** The head as the chain names it. */
type Head = { readonly number: number; readonly timestamp: number };

/** A time, by the views that were known when it began and when it ended. */
export type Span = { readonly began: number; readonly known: number; readonly ended: number };

export class Timeline {
  #firstBlock = 0;
  readonly #views: {
    readonly view: View;
    readonly timestamp: number;
    readonly since: number;
    readonly reorganised: boolean;
  }[] = [];
  /** The first view that a service may remember. */
  #remembered = 0;

  /** A run begins: its first block is this one. */
  restart(first: Head, blocks: readonly Policy[]): void {
    this.#firstBlock = first.number;
    this.note(blocks, first, true);
  }

  /** All services have been started again: they remember no head before the present one. */
  forget(): void {
    this.#remembered = this.#views.length - 1;
  }

  /** The chain has these blocks from now on, or since shortly before. */
  note(blocks: readonly Policy[], { timestamp }: Head, reorganised = false): void {
    const top = blocks.length - 1;
    const policies = [blocks[top]!, blocks[Math.max(0, top - CONFIRMATIONS)]!] as const;
    const view = { head: this.#firstBlock + top, policies };
    this.#views.push({ view, timestamp, since: performance.now(), reorganised });
  }

  /** Views known so far. */
  get now(): number {
    return this.#views.length;
  }

  /** Begins a span; the function that it gives ends it. */
  begin(): () => Span {
    const [began, known] = [performance.now(), this.#views.length];
    return () => ({ began, known, ended: this.#views.length });
  }

  /**
   * What may have been seen in that time, by one who goes on with a view for `reuseMs`: also the view after its end,
   * which may have been there before we heard of it. To be asked once all changes of that time are noted.
   */
  views(span: Span, reuseMs: number): View[] {
    const within = this.#within(span, reuseMs);
    return within.flatMap(({ view }, index) => {
      const before = within[index - 1]?.view;
      return before === undefined ? [view] : [...torn(before, view), view];
    });
  }

  /** Whether blocks went away in that time: then what was read of them is asked for in vain. */
  wasReorganised(span: Span, reuseMs = 0): boolean {
    return this.#within(span, reuseMs)
      .slice(1)
      .some(({ reorganised }) => reorganised);
  }

  /**
   * Whether a head of that time may be taken for one of a backend that is behind: a head before it was higher, and no
   * earlier. A service then refuses for want of a fresh one, until the chain is as long as it was, or later.
   */
  mayLookBehind(span: Span): boolean {
    const within = this.#within(span, 0);
    const first = this.#views.indexOf(within[0]!);
    return within.some(({ view, timestamp }, index) =>
      this.#views
        .slice(this.#remembered, first + index)
        .some((before) => before.view.head > view.head && before.timestamp >= timestamp),
    );
  }

  #within({ began, known, ended }: Span, reuseMs: number) {
    let first = known - 1;
    while (first > 0 && this.#views[first]!.since > began - reuseMs) first -= 1;
    return this.#views.slice(first, ended + 1);
  }
}

/**
 * While anvil makes a block, or sets its chain back, it answers calls that are pinned to the hash of its head from the
 * state that comes next (seen for a fifth of such calls). No other node does.
 */
function torn({ head, policies: [atHead, atSettled] }: View, { policies: [next] }: View): View[] {
  return [
    { head, policies: [next, next] },
    { head, policies: [next, atSettled] },
    { head, policies: [atHead, next] },
  ];
}
