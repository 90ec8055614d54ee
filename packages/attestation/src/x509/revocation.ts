import { equalBytes, toHex } from '@dstack-cloud/encoding';
import type { CryptoBackend } from '../crypto/backend.ts';
import type { VerificationCache } from '../crypto/verification-cache.ts';
import { AttestationError } from '../errors.ts';
import type { Certificate } from './certificate.ts';
import { date } from './certificate-rules.ts';
import type { CertificateRevocationList } from './crl.ts';
import { verifySigned } from './signed.ts';

interface RevocationRules {
  readonly now: number;
  readonly revocation: 'required' | 'available' | 'none';
  readonly crls?: readonly CertificateRevocationList[];
  /** Told of each list that was looked at, whether it is authentic and in force. */
  readonly onList?: (list: CertificateRevocationList, isGood: boolean) => Promise<void>;
}

/**
 * Asks the revocation lists about every certificate below the root (RFC 5280 section 6.3): a list counts when
 * it is of the same issuer, signed by it, and in force while thisUpdate <= now < nextUpdate.
 * @param chain leaf first, root last
 * @returns the lists which were used
 * @throws AttestationError `revoked`, `revocation-unknown`, `expired`, `not-yet-valid`, `signature-invalid`
 */
export async function checkRevocation(
  chain: readonly Certificate[],
  rules: RevocationRules,
  crypto: CryptoBackend,
  cache: VerificationCache,
): Promise<CertificateRevocationList[]> {
  const used: CertificateRevocationList[] = [];
  if (rules.revocation === 'none') return used;
  for (const [i, certificate] of chain.slice(0, -1).entries()) {
    const lists = (rules.crls ?? []).filter((list) => coversCertificate(list, certificate));
    if (lists.length === 0 && rules.revocation === 'available') continue;
    if (lists.length === 0) {
      throw new AttestationError('revocation-unknown', 'No revocation list covers a certificate', {
        found: `serial ${toHex(certificate.serial)}`,
      });
    }
    for (const list of lists) {
      await checkList(list, chain[i + 1]!, rules.now, crypto, cache).catch(async (error: unknown) => {
        await rules.onList?.(list, false);
        throw error;
      });
      await rules.onList?.(list, true);
      checkNotListed(certificate, list);
      used.push(list);
    }
  }
  return used;
}

/** An authentic list in force. `issuer` must be the certificate authority that signed it. */
export async function checkList(
  list: CertificateRevocationList,
  issuer: Certificate,
  now: number,
  crypto: CryptoBackend,
  cache: VerificationCache,
): Promise<void> {
  if (!equalBytes(list.issuer, issuer.subject)) {
    throw new AttestationError('revocation-unknown', 'The revocation list is of another issuer');
  }
  // RFC 5280 section 6.3.3 (f).
  if (issuer.keyUsage && !issuer.keyUsage.crlSign) {
    throw new AttestationError('chain-invalid', 'The issuer may not sign revocation lists (cRLSign)');
  }
  await verifySigned(list, issuer.spki, 'revocation list', crypto, cache);
  if (now < list.thisUpdate) {
    const found = date(now);
    const expected = `from ${date(list.thisUpdate)}`;
    throw new AttestationError('not-yet-valid', 'The revocation list is not in force yet', {
      expected,
      found,
    });
  }
  if (now >= list.nextUpdate) {
    const found = date(now);
    const expected = `before ${date(list.nextUpdate)}`;
    throw new AttestationError('expired', 'The revocation list has expired', { expected, found });
  }
}

/** @throws AttestationError `revoked` */
export function checkNotListed(certificate: Certificate, list: CertificateRevocationList): void {
  const serial = toHex(certificate.serial);
  if (list.revokedSerials.has(serial)) {
    throw new AttestationError('revoked', 'A certificate has been revoked', { found: `serial ${serial}` });
  }
}

/** Whether a list is of the certificate's issuer, and for its distribution point when it is for one. */
export function coversCertificate(list: CertificateRevocationList, certificate: Certificate): boolean {
  if (!equalBytes(list.issuer, certificate.issuer)) return false;
  return list.scopeUrls === undefined || list.scopeUrls.some((url) => certificate.crlUrls.includes(url));
}
