import { pinKey } from '../crypto/verification-cache.ts';
import type { TrustRoot } from '../roots/trust-roots.ts';
import { type Certificate, parseCertificate } from './certificate.ts';

const parsed = new WeakMap<Uint8Array, Certificate>();

/** The certificate of a trust root, parsed once. @throws AttestationError `malformed` */
export function anchorCertificate(root: TrustRoot): Certificate {
  const known = parsed.get(root.der);
  if (known) return known;
  const certificate = parseCertificate(root.der);
  parsed.set(root.der, certificate);
  pinKey(certificate.spki);
  return certificate;
}
