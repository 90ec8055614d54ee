/** Why the service does not start, or does not accept a request. */
export type AuthApiErrorCode = 'bad-configuration' | 'bad-request' | 'body-too-large' | 'too-many-requests';

/** The one error class of this package. */
export class AuthApiError extends Error {
  readonly code: AuthApiErrorCode;

  constructor(code: AuthApiErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'AuthApiError';
    this.code = code;
  }
}
