/** Closed list of what can be wrong with a file or a folder that should be ours. */
export type FilesErrorCode = 'locked' | 'not-ours';

/** The only error class of this package. */
export class FilesError extends Error {
  readonly code: FilesErrorCode;
  readonly expected: string | undefined;
  readonly found: string | undefined;

  constructor(
    code: FilesErrorCode,
    message: string,
    details: { readonly cause?: unknown; readonly expected?: string; readonly found?: string } = {},
  ) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.name = 'FilesError';
    this.code = code;
    this.expected = details.expected;
    this.found = details.found;
  }
}
