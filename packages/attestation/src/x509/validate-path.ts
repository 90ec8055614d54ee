import type { CryptoBackend } from '../crypto/backend.ts';
import type { VerificationCache } from '../crypto/verification-cache.ts';
import { AttestationError } from '../errors.ts';
import type { TrustRoot } from '../roots/trust-roots.ts';
import type { Certificate } from './certificate.ts';
import type { CertificateRevocationList } from './crl.ts';

export interface PathRules {
  readonly anchors: readonly TrustRoot[];
  /** Unix seconds. */
  readonly now: number;
  /** `required`: every certificate below the root needs a list in force; `available`: only those whose issuer has one in `crls`. */
  readonly revocation: 'required' | 'available' | 'none';
  readonly crls?: readonly CertificateRevocationList[];
  /** If the leaf has an extended key usage, it must hold one of these OIDs. */
  readonly extendedKeyUsage?: readonly string[];
  /** The leaf must have keyUsage digitalSignature; default false. */
  readonly requireDigitalSignature?: boolean;
  /** Critical extensions which the caller handles itself. */
  readonly knownExtensions?: readonly string[];
}

export interface ValidatedPath {
  /** Leaf first, trust root last. */
  readonly chain: readonly Certificate[];
  readonly anchor: TrustRoot;
  /** Dates between which every certificate and list of the path is in force: from <= t <= until. */
  readonly validFrom: number;
  readonly validUntil: number;
}

/**
 * RFC 5280 section 6 for the chains of attestation: finds the path from `leaf` through `intermediates` (in any
 * order, at most 8) to one of the anchors, and checks on it signatures, dates, names, CA flags, keyCertSign,
 * path lengths, unknown critical extensions and revocation. The leaf must not be a CA.
 * @throws AttestationError `chain-invalid`, `expired`, `not-yet-valid`, `revoked`, `revocation-unknown`, `unsupported`
 */
export async function validatePath(
  _leaf: Certificate,
  _intermediates: readonly Certificate[],
  _rules: PathRules,
  _crypto: CryptoBackend,
  _cache: VerificationCache,
): Promise<ValidatedPath> {
  throw new AttestationError('unsupported', 'not available');
}
