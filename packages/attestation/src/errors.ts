/** Stable reasons for which evidence, or what belongs to it, is refused. The list is closed. */
export type AttestationErrorCode =
  /** Bytes that do not have the form which the protocol or a standard demands. */
  | 'malformed'
  /** Larger, deeper or longer than a named limit. */
  | 'too-large'
  /** Well-formed, but a version, algorithm or type that this library refuses. */
  | 'unsupported'
  /** A certificate chain that does not lead to a configured trust root, or breaks a rule of RFC 5280. */
  | 'chain-invalid'
  /** A certificate or document used after the end of its validity. */
  | 'expired'
  /** A certificate or document used before the start of its validity. */
  | 'not-yet-valid'
  /** A certificate that its issuer's revocation list names. */
  | 'revoked'
  /** No authentic revocation list in force says anything about a certificate. */
  | 'revocation-unknown'
  /** A signature that does not verify. */
  | 'signature-invalid'
  /** Two values that must be equal are not (bindings, registers, report data). */
  | 'mismatch'
  /** A debug TD, enclave or guest: its memory is open to the host. */
  | 'debug'
  /** Attributes or policy bits that a production workload must not have. */
  | 'attributes'
  /** The platform's TCB level is revoked, or no level fits. */
  | 'tcb'
  /** Collateral that contradicts itself or is not meant for this evidence. */
  | 'collateral-invalid'
  /** Collateral that could not be had: nothing was found wrong with the evidence. */
  | 'collateral-unavailable'
  /** The event log does not have the events which the boot sequence demands. */
  | 'event-log'
  /** The evidence is not of the OS image which it claims. */
  | 'image'
  /** Genuine evidence that the local policy does not accept. */
  | 'policy'
  /** A device or path needed to obtain evidence is missing, busy or answers wrongly. */
  | 'device';

/** What a check saw: kept as data so that a report can show it. */
export interface AttestationErrorDetails {
  /** Identifier of the check that failed, as in the list of checks. */
  readonly check?: string | undefined;
  readonly expected?: string | undefined;
  readonly found?: string | undefined;
  readonly cause?: unknown;
}

/** The only error that this package throws. */
export class AttestationError extends Error {
  readonly code: AttestationErrorCode;
  readonly check: string | undefined;
  readonly expected: string | undefined;
  readonly found: string | undefined;

  constructor(code: AttestationErrorCode, message: string, details: AttestationErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.name = 'AttestationError';
    this.code = code;
    this.check = details.check;
    this.expected = details.expected;
    this.found = details.found;
  }
}
