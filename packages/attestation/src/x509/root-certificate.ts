import { parseCertificate } from './certificate.ts';
import { derForm } from './der-form.ts';

/**
 * DER of the one certificate in a file that names a trust root: DER, PEM, hex or base64.
 * @throws AttestationError `malformed`
 */
export function rootCertificate(file: Uint8Array): Uint8Array {
  const der = derForm(file, 'CERTIFICATE');
  parseCertificate(der);
  return der;
}
