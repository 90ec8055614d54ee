import { parseCertificate } from '@dstack-cloud/attestation';
import { decodePem, toHex } from '@dstack-cloud/encoding';
import { OID } from '@dstack-cloud/ra-tls';

/**
 * Content that differs on purpose: app info is of verified evidence (docs/protocol/ra-tls.md section 1.3), so its
 * device id is.
 */
const CONTENT_DIFFERS: readonly string[] = [OID.appInfo];

const KEY_USAGE = '2.5.29.15';

/** What two certificates of the same profile share: names, dates, key usage, extensions in order with their content. */
export function certificateShape(pem: string, issuerNotAfter: number = Infinity): Record<string, unknown> {
  const { subject, issuer, notBefore, notAfter, extensions } = parseCertificate(
    decodePem(pem, 'CERTIFICATE'),
  );
  return {
    subject: toHex(subject),
    issuer: toHex(issuer),
    notBefore,
    // Counted from the moment of issue: the clock of the replay stands at the recorded answer's second. Ours lets no
    // certificate outlive its issuer, so that strict clients accept it to its last day.
    notAfter: Math.round(Math.min(notAfter, issuerNotAfter) / 60),
    extensions: extensions.map(({ oid, critical, value }) => [oid, critical, contentOf(oid, value)]),
  };
}

function contentOf(oid: string, value: Uint8Array): string {
  if (CONTENT_DIFFERS.includes(oid)) return '';
  // The original writes a second byte of zeros, which DER does not allow: bits are compared.
  return oid === KEY_USAGE
    ? toHex(value)
        .replace(/^03030.(..)00$/, '$1')
        .replace(/^03020.(..)$/, '$1')
    : toHex(value);
}

/** Unix seconds. */
export function notAfterOf(pem: string): number {
  return parseCertificate(decodePem(pem, 'CERTIFICATE')).notAfter;
}
