/** What can go wrong while contracts are compiled, deployed or managed. */
export type ContractsErrorCode =
  | 'compile-failed'
  | 'artifact-missing'
  | 'foundry-missing'
  | 'anvil-not-ready'
  | 'transaction-reverted'
  | 'event-missing'
  | 'bad-argument';

/** The one error class of this package. */
export class ContractsError extends Error {
  readonly code: ContractsErrorCode;

  constructor(code: ContractsErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'ContractsError';
    this.code = code;
  }
}
