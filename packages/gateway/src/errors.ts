/** Why the gateway refuses or cannot go on. */
export type GatewayErrorCode =
  | 'config-unreadable'
  | 'config-invalid'
  | 'listen-failed'
  | 'wireguard'
  | 'state';

/** An error with a code for programs and a sentence for people. */
export class GatewayError extends Error {
  override readonly name = 'GatewayError';
  readonly code: GatewayErrorCode;

  constructor(code: GatewayErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}
