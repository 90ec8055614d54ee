/** One link of the chain from silicon to policy. */
export interface Link {
  readonly name: string;
  /** Null: could not be looked at, and why; it does not decide. */
  readonly ok: boolean | null;
  /** Why: what was found, in one sentence. */
  readonly why: string;
  readonly expected?: string;
  readonly found?: string;
}
