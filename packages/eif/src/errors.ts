/** What can go wrong with an enclave image, as a closed list. */
export type EifErrorCode =
  | 'bad-argument'
  | 'bad-image'
  | 'certificate-invalid'
  | 'changed'
  | 'crc-differs'
  | 'malformed'
  | 'measurement-differs'
  | 'not-an-eif'
  | 'not-signed'
  | 'output-exists'
  | 'signature-invalid'
  | 'signer-failed'
  | 'tables-differ'
  | 'too-large'
  | 'trailing-bytes'
  | 'truncated'
  | 'unsupported';

interface Details {
  readonly expected?: string;
  readonly found?: string;
  /** What the user can do about it. */
  readonly hint?: string;
  readonly cause?: unknown;
}

/** The only error class of this package. */
export class EifError extends Error {
  readonly code: EifErrorCode;
  readonly expected: string | undefined;
  readonly found: string | undefined;
  readonly hint: string | undefined;

  constructor(code: EifErrorCode, message: string, details: Details = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.name = 'EifError';
    this.code = code;
    this.expected = details.expected;
    this.found = details.found;
    this.hint = details.hint;
  }
}
