/** What can go wrong while contracts are compiled, deployed or managed, also by a task. */
export type ContractsErrorCode =
  | 'compile-failed'
  | 'artifact-missing'
  | 'foundry-missing'
  | 'anvil-not-ready'
  | 'transaction-reverted'
  | 'event-missing'
  | 'bad-argument'
  | 'call-reverted'
  | 'call-not-announced'
  | 'chain-mismatch'
  | 'chain-unreachable'
  | 'no-key'
  | 'not-confirmed'
  | 'refused'
  | 'usage';

/** The one error class of this package. */
export class ContractsError extends Error {
  readonly code: ContractsErrorCode;

  /** What a person can do about it. */
  readonly hint: string | undefined;

  constructor(
    code: ContractsErrorCode,
    message: string,
    { hint, ...options }: ErrorOptions & { hint?: string } = {},
  ) {
    super(message, options);
    this.name = 'ContractsError';
    this.code = code;
    this.hint = hint;
  }
}
