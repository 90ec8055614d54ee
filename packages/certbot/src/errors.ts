/** Why there is no certificate. */
export type CertbotErrorCode =
  | 'bad-credentials'
  | 'dns-failed'
  | 'acme-failed'
  | 'bad-certificate'
  | 'ct-failed';

/** An error with a code for programs and a sentence for people. */
export class CertbotError extends Error {
  override readonly name = 'CertbotError';
  readonly code: CertbotErrorCode;

  constructor(code: CertbotErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}
