/** Why a certificate, a request or a connection was refused, as a closed list. */
export type RaTlsErrorCode =
  /** Bytes that are no certificate or extension of the expected form. */
  | 'malformed'
  /** A field of a certificate to be issued breaks a rule. */
  | 'invalid-field'
  /** A signing request that does not decode. */
  | 'csr-malformed'
  /** A signing request whose signature, key or confirm word is wrong. */
  | 'csr-invalid'
  | 'no-attestation'
  /** The evidence is genuine or not, but not for this TLS key. */
  | 'report-data-mismatch'
  /** The evidence was verified and refused; the cause says by which check. */
  | 'attestation-refused'
  /** The peer's certificate is not one for this role, e.g. an application's where a KMS is wanted. */
  | 'wrong-usage'
  /** The peer's key or root is not the pinned one. */
  | 'pin-mismatch'
  /** No connection, TLS failure, or no answer in time. */
  | 'connection'
  /** The KMS answered with an error. */
  | 'kms-refused';

export interface RaTlsErrorDetails {
  readonly expected?: string;
  readonly found?: string;
  readonly cause?: unknown;
}

/** The only error that this package throws on bad input. Its message may go to the peer. */
export class RaTlsError extends Error {
  readonly code: RaTlsErrorCode;
  readonly expected: string | undefined;
  readonly found: string | undefined;

  constructor(code: RaTlsErrorCode, message: string, details: RaTlsErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.name = 'RaTlsError';
    this.code = code;
    this.expected = details.expected;
    this.found = details.found;
  }
}

/** The message of anything that was thrown. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
