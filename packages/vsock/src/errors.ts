/** Why a stream was not opened, as a closed list. */
export type VsockErrorCode =
  /** The system has no vsock, or its address is in use. */
  | 'unavailable'
  /** Nobody listens at that port. */
  | 'not-listening'
  /** A proxy refused the target. */
  | 'proxy-refused'
  /** A proxy answered with something that is not HTTP, or not in time. */
  | 'proxy-broken'
  /** An address that cannot be read. */
  | 'bad-address'
  /** A configuration of the proxy that cannot be used. */
  | 'bad-config';

/** The only error that this package throws. */
export class VsockError extends Error {
  readonly code: VsockErrorCode;
  readonly expected: string | undefined;
  readonly found: string | undefined;

  constructor(
    code: VsockErrorCode,
    message: string,
    details: { readonly expected?: string; readonly found?: string; readonly cause?: unknown } = {},
  ) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.name = 'VsockError';
    this.code = code;
    this.expected = details.expected;
    this.found = details.found;
  }
}
