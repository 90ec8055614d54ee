/** What can go wrong when an image is locked, built, read or measured, as a closed list. */
export type OsImageErrorCode =
  | 'bad-lock'
  | 'bad-recipe'
  | 'build-failed'
  | 'exists'
  | 'format'
  | 'no-space'
  | 'not-an-image'
  | 'package-differs'
  | 'package-missing'
  | 'tool-missing';

/** The only error class of this package. The message says what to do where something can be done. */
export class OsImageError extends Error {
  readonly code: OsImageErrorCode;
  readonly expected: string | undefined;
  readonly found: string | undefined;

  constructor(
    code: OsImageErrorCode,
    message: string,
    details: { cause?: unknown; expected?: string; found?: string } = {},
  ) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.name = 'OsImageError';
    this.code = code;
    this.expected = details.expected;
    this.found = details.found;
  }
}
