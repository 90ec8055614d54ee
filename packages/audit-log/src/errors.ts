export type AuditErrorCode =
  /** A record does not follow from the one before it, or a head does not fit the records. */
  | 'chain-broken'
  /** A line is no record, or a head is no head. */
  | 'malformed'
  /** A proof or a signature does not verify. */
  | 'proof-invalid'
  /** The record could not be made durable. Nothing was written; the decision must not be acted on. */
  | 'write-failed'
  /** An earlier write left the file in a state that is not known. The log takes no record until it is reopened. */
  | 'poisoned'
  /** Asked for a record or a tree size that the log does not have. */
  | 'out-of-range';

/** The one error class of this package. */
export class AuditError extends Error {
  readonly code: AuditErrorCode;

  constructor(code: AuditErrorCode, message: string, options: { cause?: unknown } = {}) {
    super(message, options);
    this.name = 'AuditError';
    this.code = code;
  }
}
