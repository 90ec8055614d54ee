/** Why a policy source could not be asked, or was refused at start. */
export type PolicyErrorCode =
  | 'bad-configuration'
  | 'dev-refused'
  | 'invalid-request'
  | 'backend-unreachable'
  | 'backend-timeout'
  | 'backend-status'
  | 'backend-answer'
  | 'chain-header'
  | 'chain-mismatch'
  | 'chain-no-quorum'
  | 'chain-proof'
  | 'chain-stale';

/**
 * The one error class of this package. A caller that gets one has no permission: every failure is a refusal.
 * Messages never contain an address of a backend; `detail` may, and is for the operator's log only.
 */
export class PolicyError extends Error {
  readonly code: PolicyErrorCode;
  readonly detail: string | undefined;

  constructor(code: PolicyErrorCode, message: string, options: ErrorOptions & { detail?: string } = {}) {
    super(message, options);
    this.name = 'PolicyError';
    this.code = code;
    this.detail = options.detail;
  }
}
