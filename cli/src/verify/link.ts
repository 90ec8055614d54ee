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

/** A link whose two sides must be equal; `what` names the found one. */
export function compare(name: string, what: string, expected: string, found: string): Link {
  if (expected === found) return { name, ok: true, why: `${what} ${found}` };
  return { name, ok: false, why: `${what} is another`, expected, found };
}
