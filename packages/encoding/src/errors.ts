/** What is wrong with the bytes or text, as a closed list. */
export type EncodingErrorCode =
  | 'truncated'
  | 'trailing-bytes'
  | 'not-canonical'
  | 'invalid-value'
  | 'unexpected-tag'
  | 'too-large'
  | 'too-deep';

/** The only error that this package throws on bad input. */
export class EncodingError extends Error {
  readonly code: EncodingErrorCode;

  constructor(code: EncodingErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'EncodingError';
    this.code = code;
  }
}
