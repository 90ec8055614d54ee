/** What went wrong before evidence could be verified. The list is closed. */
export type VerifierErrorCode =
  /** Bytes of no form that is known. */
  | 'form-unknown'
  /** Input larger than its limit. */
  | 'too-large'
  /** Input of a known form whose parts do not fit. */
  | 'malformed'
  /** A configuration key, value or file that cannot be used. */
  | 'config'
  /** An expectation that is not understood: it could not be compared. */
  | 'expectation'
  /** A command line that cannot be understood. */
  | 'usage'
  /** A file that cannot be read or written. */
  | 'io'
  /** More requests at once than the service takes. */
  | 'busy';

/** The only error that this package throws; evidence that is bad is a report, not an error. */
export class VerifierError extends Error {
  readonly code: VerifierErrorCode;

  constructor(code: VerifierErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'VerifierError';
    this.code = code;
  }
}

/** Whether what was asked is not understood, so that nothing was looked at. */
export function isUsageError({ code }: VerifierError): boolean {
  return code === 'usage' || code === 'expectation';
}
