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

/** The messages of an error and its causes, outermost first, as logs show them. */
export function errorChain(error: unknown): string {
  const parts: string[] = [];
  for (let current: unknown = error; current instanceof Error && parts.length < 8; current = current.cause) {
    if (!parts.some((part) => part.includes(current.message))) parts.push(current.message);
  }
  return parts.length > 0 ? parts.join(': ') : String(error);
}
