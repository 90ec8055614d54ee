import { equalBytes } from '@dstack-cloud/encoding';
import { keyKind } from '../crypto/key-kind.ts';
import { AttestationError } from '../errors.ts';
import type { Certificate } from './certificate.ts';
import { EXTENSION } from './extensions.ts';

/** Extensions that may be critical because this package obeys them, or they bind nothing that it uses. */
const UNDERSTOOD: readonly string[] = [
  EXTENSION.basicConstraints,
  EXTENSION.keyUsage,
  EXTENSION.extendedKeyUsage,
  EXTENSION.crlDistributionPoints,
  // Names of the subject: attestation identifies keys by their issuer alone.
  EXTENSION.subjectAltName,
  // Policies are not asked for: RFC 5280 section 6.1.1 (c), initial set any-policy.
  EXTENSION.certificatePolicies,
];

/** Refused whether critical or not: they take away trust which nothing here would take away. */
const RESTRICTIONS: readonly string[] = [
  EXTENSION.nameConstraints,
  EXTENSION.policyMappings,
  EXTENSION.policyConstraints,
  EXTENSION.inhibitAnyPolicy,
];

/** RFC 5280 section 6.1.3 (a)(2); notAfter holds to the end of its second. */
export function checkDates(certificate: Certificate, time: number, role: string): void {
  const now = Math.floor(time);
  if (now < certificate.notBefore) {
    const found = date(now);
    const expected = `from ${date(certificate.notBefore)}`;
    throw new AttestationError('not-yet-valid', `The ${role} certificate is not valid yet`, {
      expected,
      found,
    });
  }
  if (now > certificate.notAfter) {
    const found = date(now);
    const expected = `until ${date(certificate.notAfter)}`;
    throw new AttestationError('expired', `The ${role} certificate has expired`, { expected, found });
  }
}

/** Section 6.1.4 (k)-(n): CA flag, path length, keyCertSign; `below` is leaf first. */
export function checkIssuer(issuer: Certificate, below: readonly Certificate[]): void {
  if (issuer.version !== 3) throw invalid('An issuer is not a version 3 certificate');
  if (!issuer.isCa) throw invalid('An issuer is not a CA');
  if (isEmptyName(issuer.subject)) throw invalid('An issuer has no name');
  if (!issuer.keyUsage?.keyCertSign) throw invalid('An issuer may not sign certificates (keyCertSign)');
  // Self-issued certificates do not count (section 6.1.4 (l)); nor does the leaf.
  const length = below.slice(1).filter((item) => !equalBytes(item.subject, item.issuer)).length;
  if (issuer.pathLength !== undefined && length > issuer.pathLength) {
    throw new AttestationError('chain-invalid', 'The chain is longer than an issuer allows', {
      expected: `at most ${issuer.pathLength} intermediates`,
      found: `${length}`,
    });
  }
}

/** Section 6.1.4 (o), 6.1.5 (f). */
export function checkExtensions(certificate: Certificate, known: readonly string[]): void {
  for (const { oid, critical } of certificate.extensions) {
    if (RESTRICTIONS.includes(oid) || (critical && !UNDERSTOOD.includes(oid) && !known.includes(oid))) {
      throw new AttestationError('unsupported', `The certificate extension ${oid} is not understood`, {
        found: oid,
      });
    }
  }
}

interface LeafRules {
  readonly extendedKeyUsage?: readonly string[];
  readonly requireDigitalSignature?: boolean | 'if-stated';
  readonly knownExtensions?: readonly string[];
}

/** What an end-entity certificate must be. */
export function checkLeaf(leaf: Certificate, rules: LeafRules): void {
  if (leaf.version !== 3) throw invalid('The leaf is not a version 3 certificate');
  if (leaf.isCa) throw invalid('The leaf is a CA');
  if (leaf.keyUsage?.keyCertSign) throw invalid('The leaf may sign certificates');
  checkExtensions(leaf, rules.knownExtensions ?? []);
  keyKind(leaf.spki);
  const { requireDigitalSignature: signs = false } = rules;
  // Without the extension any use is allowed (RFC 5280 section 4.2.1.3).
  const unstated = signs === 'if-stated' && !leaf.keyUsage;
  if (signs !== false && !unstated && !leaf.keyUsage?.digitalSignature) {
    throw invalid('The leaf may not sign (digitalSignature)');
  }
  const usages = leaf.extendedKeyUsage;
  if (usages && rules.extendedKeyUsage && !rules.extendedKeyUsage.some((usage) => usages.includes(usage))) {
    throw new AttestationError('chain-invalid', 'The leaf is for another purpose', {
      expected: rules.extendedKeyUsage.join(' or '),
      found: usages.join(', '),
    });
  }
}

/** Section 4.1.2.6: a CA must have a subject. An empty Name is an empty SEQUENCE. */
function isEmptyName(name: Uint8Array): boolean {
  return name.length <= 2;
}

function invalid(message: string): AttestationError {
  return new AttestationError('chain-invalid', message);
}

/** A Unix time as people read it. */
export function date(seconds: number): string {
  return Number.isFinite(seconds) && Math.abs(seconds) < 8e12
    ? new Date(seconds * 1000).toISOString().replace('.000Z', 'Z')
    : String(seconds);
}
