/** Why the KMS cannot start, or an operation of it failed. What callers see are RpcErrors. */
export type KmsErrorCode =
  | 'config-invalid'
  | 'config-unreadable'
  | 'keys-missing'
  | 'keys-damaged'
  | 'keys-exist'
  | 'audit-in-use'
  | 'keys-in-use'
  | 'keys-unwritable'
  | 'agent-unavailable'
  | 'certificate'
  | 'audit-write-failed'
  | 'listen-failed'
  | 'backup-invalid'
  | 'process-unreachable'
  | 'worker-failed'
  | 'image-unavailable'
  | 'image-invalid';

/** The one error class of this service; the message names what failed and what to do. */
export class KmsError extends Error {
  readonly code: KmsErrorCode;

  constructor(code: KmsErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'KmsError';
    this.code = code;
  }
}
