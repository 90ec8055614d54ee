/** Why a guest gets no tunnel; the message is the answer. */
export class RegisterError extends Error {
  override readonly name = 'RegisterError';
  /** `invalid` for a request of wrong form, `denied` for one that may not be fulfilled, `unavailable`: try again later. */
  readonly code: 'invalid' | 'denied' | 'unavailable';

  constructor(code: RegisterError['code'], message: string) {
    super(message);
    this.code = code;
  }
}
