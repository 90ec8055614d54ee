/** Stable codes of the watcher's errors. */
export type WatcherErrorCode =
  | 'bad-configuration'
  | 'chain-replaced'
  | 'chain-unreadable'
  | 'events-missing'
  | 'listen-failed'
  | 'state-damaged'
  | 'state-of-another';

/** An error of the watcher. */
export class WatcherError extends Error {
  readonly code: WatcherErrorCode;
  readonly expected: string | undefined;
  readonly found: string | undefined;
  readonly hint: string | undefined;

  constructor(
    code: WatcherErrorCode,
    message: string,
    details: {
      expected?: string | undefined;
      found?: string | undefined;
      hint?: string | undefined;
      cause?: unknown;
    } = {},
  ) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.name = 'WatcherError';
    this.code = code;
    this.expected = details.expected;
    this.found = details.found;
    this.hint = details.hint;
  }
}
