/** Closed list of what stops a boot, an answer or an application. */
export type GuestErrorCode =
  | 'config-invalid'
  | 'host-shared-invalid'
  | 'already-measured'
  | 'tee-missing'
  | 'evidence-failed'
  | 'time-not-synchronised'
  | 'disk-refused'
  | 'disk-failed'
  | 'key-provider-unsupported'
  | 'key-provider-failed'
  | 'seal-refused'
  | 'key-provider-mismatch'
  | 'kms-unreachable'
  | 'kms-refused'
  | 'kms-unavailable'
  | 'kms-untrusted'
  | 'keys-invalid'
  | 'key-state-damaged'
  | 'gateway-misconfigured'
  | 'gateway-refused'
  | 'env-undecryptable'
  | 'init-script-failed'
  | 'pre-launch-failed'
  | 'shell-missing'
  | 'image-refused'
  | 'start-failed'
  | 'listen-failed'
  | 'not-available'
  | 'rate-limited';

/** What a failed check expected and what it found, in printable form; never a secret. */
export interface GuestErrorDetails {
  readonly expected?: string;
  readonly found?: string;
  readonly cause?: unknown;
}

/** The one error class of this package. */
export class GuestError extends Error {
  readonly code: GuestErrorCode;
  readonly expected: string | undefined;
  readonly found: string | undefined;

  constructor(code: GuestErrorCode, message: string, details: GuestErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.name = 'GuestError';
    this.code = code;
    this.expected = details.expected;
    this.found = details.found;
  }
}
