/** Why a call failed. The list is closed. */
export type DstackErrorCode =
  /** There is no agent at this address, or none was found. */
  | 'no-agent'
  /** The connection failed, also after it was tried again. */
  | 'connection'
  | 'timeout'
  /** The caller's signal ended the call. */
  | 'aborted'
  /** The agent refused: `status`, `serverError` and `serverCode` say why. */
  | 'refused'
  /** What answers is no agent, or an older one that lacks the method. */
  | 'answer'
  /** The agent was not asked: an argument cannot be right. */
  | 'argument'
  /** Evidence or a signature is not what was expected. */
  | 'untrusted';

/** What is known of a failed call. */
export interface DstackErrorDetails {
  readonly method?: string;
  /** HTTP status. */
  readonly status?: number;
  /** The agent's `error`, as it is. */
  readonly serverError?: string;
  /** The agent's machine-readable `code`. */
  readonly serverCode?: string;
  readonly cause?: unknown;
}

/** The only error that this package throws. */
export class DstackError extends Error {
  readonly code: DstackErrorCode;
  readonly method: string | undefined;
  readonly status: number | undefined;
  readonly serverError: string | undefined;
  readonly serverCode: string | undefined;

  constructor(code: DstackErrorCode, message: string, details: DstackErrorDetails = {}) {
    super(message, { cause: details.cause });
    this.name = 'DstackError';
    this.code = code;
    this.method = details.method;
    this.status = details.status;
    this.serverError = details.serverError;
    this.serverCode = details.serverCode;
  }
}
