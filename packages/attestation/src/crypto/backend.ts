export type HashName = 'sha256' | 'sha384' | 'sha512';

/** ECDSA signatures are raw r‖s of the curve's size. RSA-PSS has a salt as long as the hash. */
export type SignatureScheme = `ecdsa-${HashName}` | `rsa-pkcs1-${HashName}` | `rsa-pss-${HashName}`;

export type KeyKind = 'p256' | 'p384' | 'rsa';

/** An imported public key; its handle belongs to the backend that made it. */
export interface VerifyKey {
  readonly kind: KeyKind;
  readonly spki: Uint8Array;
  readonly handle: unknown;
}

/**
 * The cryptography that verifying evidence needs. Hashes are synchronous in every backend; signatures are
 * promises, because WebCrypto's are.
 */
export interface CryptoBackend {
  readonly name: 'node' | 'webcrypto';
  /** Hash of the concatenated parts. */
  hash(name: HashName, ...parts: readonly Uint8Array[]): Uint8Array;
  /**
   * Imports a SubjectPublicKeyInfo (DER): P-256, P-384, or RSA of 2048 to 8192 bits.
   * @throws AttestationError `unsupported` for other keys, `malformed` for broken ones.
   */
  importKey(spki: Uint8Array): Promise<VerifyKey>;
  /** False for a wrong signature, and for one whose scheme does not fit the key. */
  verify(key: VerifyKey, scheme: SignatureScheme, signature: Uint8Array, data: Uint8Array): Promise<boolean>;
}
