/** What is wrong with a key, a signature or a sealed text, as a closed list. */
export type KeysErrorCode =
  | 'invalid-length'
  | 'invalid-key'
  | 'invalid-signature'
  | 'unsupported-algorithm'
  | 'untrusted-signer'
  | 'decryption-failed';

/** The only error that this package throws on bad input. */
export class KeysError extends Error {
  readonly code: KeysErrorCode;

  constructor(code: KeysErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'KeysError';
    this.code = code;
  }
}

/** @throws KeysError unless `bytes` has one of these lengths */
export function expectLength(name: string, bytes: Uint8Array, ...lengths: number[]): void {
  if (!lengths.includes(bytes.length)) {
    throw new KeysError(
      'invalid-length',
      `${name} must be ${lengths.join(' or ')} bytes, found ${bytes.length}`,
    );
  }
}
