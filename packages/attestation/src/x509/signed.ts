import type { CryptoBackend, SignatureScheme } from '../crypto/backend.ts';
import type { VerificationCache } from '../crypto/verification-cache.ts';
import { AttestationError } from '../errors.ts';
import { backendSignature } from './algorithms.ts';

/** What certificates and revocation lists have in common. */
export interface Signed {
  readonly tbs: Uint8Array;
  readonly scheme: SignatureScheme | undefined;
  readonly signature: Uint8Array;
}

/**
 * Checks that the key of `spki` signed; a success is remembered, so that a link which several chains share is
 * checked once.
 * @throws AttestationError `signature-invalid`, `unsupported`
 */
export async function verifySigned(
  signed: Signed,
  spki: Uint8Array,
  what: string,
  crypto: CryptoBackend,
  cache: VerificationCache,
): Promise<void> {
  const { scheme, tbs, signature } = signed;
  if (!scheme)
    throw new AttestationError('unsupported', `The ${what} has an unsupported signature algorithm`);
  const key = await cache.key(crypto, spki);
  const raw = backendSignature(key, signature);
  if (!raw || !(await cache.verified(crypto, scheme, spki, raw, tbs))) {
    throw new AttestationError('signature-invalid', `The signature of the ${what} is wrong`);
  }
}
