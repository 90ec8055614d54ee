import { equalBytes } from '@dstack-cloud/encoding';
import type { CryptoBackend } from '../crypto/backend.ts';
import type { VerificationCache } from '../crypto/verification-cache.ts';
import { AttestationError } from '../errors.ts';
import type { TrustRoot } from '../roots/trust-roots.ts';
import { anchorCertificate } from './anchor-certificate.ts';
import type { Certificate } from './certificate.ts';
import { checkDates, checkExtensions, checkIssuer, checkLeaf } from './certificate-rules.ts';
import type { CertificateRevocationList } from './crl.ts';
import { checkRevocation } from './revocation.ts';
import { verifySigned } from './signed.ts';

export interface PathRules {
  readonly anchors: readonly TrustRoot[];
  /** Unix seconds. */
  readonly now: number;
  /**
   * `required`: every certificate below the root needs a list in force; `available`: only those for whose
   * issuer `crls` has one.
   */
  readonly revocation: 'required' | 'available' | 'none';
  readonly crls?: readonly CertificateRevocationList[];
  /** If the leaf has an extended key usage, it must hold one of these OIDs. */
  readonly extendedKeyUsage?: readonly string[];
  /** The leaf must have keyUsage digitalSignature, or `if-stated` only when it has a keyUsage; default false. */
  readonly requireDigitalSignature?: boolean | 'if-stated';
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

const MAX_INTERMEDIATES = 8;
/** Signature checks of one search; names can be made to fit in many ways, signatures cannot. */
const MAX_ATTEMPTS = 24;

/**
 * RFC 5280 section 6 for the chains of attestation: finds the path from `leaf` through `intermediates` (in any
 * order, at most 8) to one of the anchors, and checks on it signatures, dates, names, CA flags, keyCertSign,
 * path lengths, unknown critical extensions and revocation. The leaf must not be a CA.
 * @throws AttestationError `chain-invalid`, `expired`, `not-yet-valid`, `signature-invalid`, `revoked`,
 * `revocation-unknown`, `unsupported`, `too-large`
 */
export async function validatePath(
  leaf: Certificate,
  intermediates: readonly Certificate[],
  rules: PathRules,
  crypto: CryptoBackend,
  cache: VerificationCache,
): Promise<ValidatedPath> {
  if (intermediates.length > MAX_INTERMEDIATES) {
    throw new AttestationError('too-large', `${intermediates.length} intermediate certificates`);
  }
  checkDates(leaf, rules.now, 'leaf');
  checkLeaf(leaf, rules);
  const search: Search = { intermediates, rules, crypto, cache, attempts: 0, refusal: undefined };
  const found = await extend([leaf], search);
  if (!found) {
    throw search.refusal ?? new AttestationError('chain-invalid', 'No path leads to a trust root');
  }
  const lists = await checkRevocation(found.chain, rules, crypto, cache);
  return {
    ...found,
    validFrom: Math.max(
      ...found.chain.map((certificate) => certificate.notBefore),
      ...lists.map((list) => list.thisUpdate),
    ),
    // A list is in force while t < nextUpdate; a certificate still in its last second.
    validUntil: Math.min(
      ...found.chain.map((certificate) => certificate.notAfter),
      ...lists.map((list) => list.nextUpdate - 1),
    ),
  };
}

interface Search {
  readonly intermediates: readonly Certificate[];
  readonly rules: PathRules;
  readonly crypto: CryptoBackend;
  readonly cache: VerificationCache;
  attempts: number;
  /** Why the first issuer that fitted by name was refused: the most telling reason when nothing fits. */
  refusal: AttestationError | undefined;
}

type Found = Pick<ValidatedPath, 'chain' | 'anchor'>;

async function extend(path: readonly Certificate[], search: Search): Promise<Found | undefined> {
  const last = path.at(-1)!;
  for (const anchor of search.rules.anchors) {
    const certificate = anchorCertificate(anchor);
    if (await accepts(path, certificate, search)) return { chain: [...path, certificate], anchor };
  }
  for (const candidate of search.intermediates) {
    // A self-issued candidate of the same key would only lengthen the path.
    if (path.some((used) => equalBytes(used.spki, candidate.spki))) continue;
    if (!equalBytes(candidate.subject, last.issuer)) continue;
    if (isAnchor(candidate, search.rules.anchors)) continue;
    if (!(await accepts(path, candidate, search))) continue;
    const found = await extend([...path, candidate], search);
    if (found) return found;
  }
  return undefined;
}

/** Whether `issuer` may stand above the path, and signed its last certificate. */
async function accepts(path: readonly Certificate[], issuer: Certificate, search: Search): Promise<boolean> {
  const last = path.at(-1)!;
  if (!equalBytes(issuer.subject, last.issuer)) return false;
  if (++search.attempts > MAX_ATTEMPTS)
    throw new AttestationError('too-large', 'Too many ways to build a chain');
  try {
    checkDates(issuer, search.rules.now, 'issuer');
    checkIssuer(issuer, path);
    checkExtensions(issuer, []);
    await verifySigned(last, issuer.spki, 'certificate', search.crypto, search.cache);
    return true;
  } catch (error) {
    if (!(error instanceof AttestationError)) throw error;
    search.refusal ??= error;
    return false;
  }
}

function isAnchor(candidate: Certificate, anchors: readonly TrustRoot[]): boolean {
  return anchors.some((anchor) => equalBytes(anchor.der, candidate.der));
}
