/** One record of the gateway's state. */
export type Entry = { readonly key: string; readonly value: string; readonly revision: number };

/** What must still be true for a commit: the record's revision, 0 for a record that is not there. */
export type Expectation = { readonly key: string; readonly revision: number };

/** A record that is written, or removed when it has no value. */
export type Write = { readonly key: string; readonly value: string | undefined };

/** A change that was committed, by whomever. */
export type Change = { readonly key: string; readonly value: string | undefined; readonly revision: number };

/** A record that is there as long as its holder lives, and says so to the store. */
export type Held = {
  /** What every write must expect that is made under it. */
  readonly expectation: Expectation;
  /** Fires when it is gone, as far as we know. */
  readonly lost: AbortSignal;
  release(): Promise<void>;
};

/**
 * Where the gateway keeps its state: SQLite for one node, etcd for several. Revisions grow with each commit and are
 * shared by all records.
 */
export interface StateStore {
  /** All records below a prefix, as of one revision. */
  list(prefix: string): Promise<{ readonly entries: readonly Entry[]; readonly revision: number }>;
  /**
   * Writes all or nothing; returns when it is on the disk.
   * @returns the new revision; undefined when an expectation does not hold
   * @throws GatewayError `state` when the store cannot be written
   */
  commit(expectations: readonly Expectation[], writes: readonly Write[]): Promise<number | undefined>;
  /**
   * Tells changes below a prefix after a revision, in order, until the returned function is called.
   * @param onLost the store cannot say what happened in between: list again
   */
  watch(prefix: string, after: number, onChange: (change: Change) => void, onLost: () => void): () => void;
  /**
   * Writes a record that goes with its holder: a lock, or that a node lives.
   * @returns undefined when somebody else has it, unless it is replaced
   */
  hold(key: string, value: string, options: { readonly replace: boolean }): Promise<Held | undefined>;
  close(): Promise<void>;
}
