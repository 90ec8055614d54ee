/** Closed list of what can go wrong with the files and values of an application. */
export type AppErrorCode =
  | 'json-invalid'
  | 'app-compose-invalid'
  | 'app-compose-unsupported'
  | 'requirement-not-met'
  | 'compose-file-invalid'
  | 'compose-file-unsupported'
  | 'engine-missing'
  | 'sys-config-invalid'
  | 'vm-config-invalid'
  | 'instance-info-invalid'
  | 'app-keys-invalid'
  | 'id-invalid'
  | 'image-archive-invalid'
  | 'env-invalid'
  | 'interpolation-invalid'
  | 'mr-config-id-mismatch'
  | 'file-missing'
  | 'file-too-large'
  | 'file-not-regular'
  | 'file-read-failed'
  | 'file-write-failed';

/** What a failed check expected and what it found, in printable form. */
export interface AppErrorDetails {
  readonly expected?: string;
  readonly found?: string;
  readonly cause?: unknown;
}

/** The one error class of this package. */
export class AppError extends Error {
  readonly code: AppErrorCode;
  readonly expected: string | undefined;
  readonly found: string | undefined;

  constructor(code: AppErrorCode, message: string, details: AppErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.name = 'AppError';
    this.code = code;
    this.expected = details.expected;
    this.found = details.found;
  }
}
