/**
 * The arithmetic of secp256k1. Lengths are the caller's to check; what is out of range throws an error of any kind.
 * All backends give the same bytes.
 */
export interface K256Backend {
  readonly name: 'libsecp256k1' | 'noble';
  /** Compressed, 33 bytes. */
  publicKey(secret: Uint8Array): Uint8Array;
  /** `r || s || v`, 65 bytes, low S, nonce of RFC 6979 over the 32-byte digest. */
  sign(digest: Uint8Array, secret: Uint8Array): Uint8Array;
  /** The compressed key that made `r || s || v`; r and s are in range. */
  recover(digest: Uint8Array, signature: Uint8Array): Uint8Array;
  /** Whether `r || s`, in range, is a signature by a key for which `isPublicKey` holds. */
  verify(digest: Uint8Array, signature: Uint8Array, publicKey: Uint8Array): boolean;
  /** Whether this is a point of the curve, compressed or not; the hybrid form of X9.62 is none. */
  isPublicKey(publicKey: Uint8Array): boolean;
}
