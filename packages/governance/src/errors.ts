/** What can go wrong while governance is read or operated. */
export type GovernanceErrorCode =
  | 'bad-input'
  | 'bad-signature'
  | 'chain-inconsistent'
  | 'chain-stale'
  | 'chain-unreachable'
  | 'not-found'
  | 'not-ready'
  | 'not-allowed'
  | 'pending'
  | 'service-inconsistent'
  | 'service-unreachable'
  | 'simulation-failed'
  | 'too-much';

type Details = { hint?: string; expected?: string; found?: string; cause?: unknown };

/** The one error class of this package. */
export class GovernanceError extends Error {
  readonly code: GovernanceErrorCode;
  /** What the operator can do about it. */
  readonly hint: string | undefined;
  readonly expected: string | undefined;
  readonly found: string | undefined;

  constructor(code: GovernanceErrorCode, message: string, details: Details = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.name = 'GovernanceError';
    this.code = code;
    this.hint = details.hint;
    this.expected = details.expected;
    this.found = details.found;
  }
}
