import { sign } from 'node:crypto';
import { type Attestation, parseCertificate } from '@dstack-cloud/attestation';
import { der, encodePem, equalBytes, utf8 } from '@dstack-cloud/encoding';
import type { P256Key } from '@dstack-cloud/keys';
import { RaTlsError } from '../errors.ts';
import { type DistinguishedName, encodeName } from '../names/distinguished-name.ts';
import { OID, X509_OID } from '../oid.ts';
import { type AppInfo, encodeAppInfo } from './app-info.ts';
import { attestationExtension } from './attestation-extension.ts';
import {
  caConstraints,
  extendedKeyUsage,
  keyIdentifier,
  keyUsage,
  subjectAltName,
  wrappedExtension,
} from './certificate-extensions.ts';
import { randomSerial, serialOfKey } from './serial-number.ts';

/** 1975-01-01T00:00:00Z, the notBefore of the original: clocks of young machines may be far behind. */
export const DEFAULT_NOT_BEFORE = 157_766_400;
/** 9999-12-31T23:59:59Z, the last time that X.509 can say (RFC 5280 section 4.1.2.5). */
const LAST_TIME = 253_402_300_799;

const ALGORITHM = der.sequence(der.oid(X509_OID.ecdsaWithSha256));

/** Who signs. */
export interface Issuer {
  /** DER Name. */
  readonly subject: Uint8Array;
  readonly key: P256Key;
  /** Unix seconds at which the issuer's own certificate ends. */
  readonly notAfter: number;
}

export interface CertificateFields {
  readonly subject: DistinguishedName;
  /** DER SubjectPublicKeyInfo of a P-256 key, 91 bytes. */
  readonly spki: Uint8Array;
  /** The signer; for a self-signed certificate its key alone. */
  readonly issuer: Issuer | P256Key;
  /** Unix seconds. */
  readonly notBefore?: number;
  readonly notAfter: number;
  /** Present for a certificate authority. */
  readonly ca?: { readonly pathLength: number };
  readonly altNames?: readonly string[];
  readonly serverAuth?: boolean;
  readonly clientAuth?: boolean;
  readonly appId?: Uint8Array;
  readonly appInfo?: AppInfo;
  readonly usage?: string;
  readonly attestation?: Attestation;
}

/**
 * Makes and signs an X.509 v3 certificate on P-256 in the form of docs/protocol/ra-tls.md section 2.1; gives its DER.
 * @throws RaTlsError `invalid-field`
 */
export function issueCertificate(fields: CertificateFields): Uint8Array {
  const { spki, issuer, notBefore = DEFAULT_NOT_BEFORE, notAfter } = fields;
  if (spki.length !== 91) throw new RaTlsError('invalid-field', 'The public key is not on P-256');
  checkTimes(notBefore, notAfter);
  const subject = encodeName(fields.subject);
  const [issuerName, key] = 'subject' in issuer ? [issuer.subject, issuer.key] : [subject, issuer];
  const tbs = der.sequence(
    der.explicit(0, der.integer(2)),
    // A CA's serial follows from its key; leaves get a random one, because a key may have many certificates.
    der.integer(fields.ca ? serialOfKey(spki) : randomSerial()),
    ALGORITHM,
    issuerName,
    der.sequence(der.time(notBefore), der.time(notAfter)),
    subject,
    spki,
    der.explicit(3, der.sequence(...extensions(fields))),
  );
  const signature = sign('sha256', tbs, key.privateKey);
  return der.sequence(tbs, ALGORITHM, der.bitString(new Uint8Array(signature)));
}

const pems = new WeakMap<Uint8Array, string>();

/** One PEM certificate; made once for each array, because servers show the same certificates in every answer. */
export function certificatePem(certificate: Uint8Array): string {
  const known = pems.get(certificate);
  if (known !== undefined) return known;
  const pem = encodePem('CERTIFICATE', certificate);
  pems.set(certificate, pem);
  return pem;
}

/** A signer from its certificate. @throws RaTlsError when the key does not belong to the certificate */
export function issuerOf(certificate: Uint8Array, key: P256Key): Issuer {
  const { subject, spki, notAfter } = parseCertificate(certificate);
  if (!equalBytes(spki, key.spki)) {
    throw new RaTlsError('invalid-field', "The issuer's key does not belong to its certificate");
  }
  return { subject, key, notAfter };
}

/** The order is that of the original (docs/protocol/ra-tls.md section 2.1). */
function extensions(fields: CertificateFields): Uint8Array[] {
  const { altNames, ca, spki, appId, appInfo, usage, attestation } = fields;
  const purposes = [
    ...(fields.serverAuth ? [X509_OID.serverAuth] : []),
    ...(fields.clientAuth ? [X509_OID.clientAuth] : []),
  ];
  return [
    ...(altNames?.length ? [subjectAltName(altNames)] : []),
    keyUsage(ca !== undefined),
    ...(purposes.length > 0 ? [extendedKeyUsage(purposes)] : []),
    ...(ca ? [keyIdentifier(spki), caConstraints(ca.pathLength)] : []),
    ...(appId ? [wrappedExtension(OID.appId, appId)] : []),
    ...(appInfo ? [wrappedExtension(OID.appInfo, encodeAppInfo(appInfo))] : []),
    ...(usage === undefined ? [] : [wrappedExtension(OID.usage, utf8(usage))]),
    ...(attestation ? [attestationExtension(attestation)] : []),
  ];
}

function checkTimes(notBefore: number, notAfter: number): void {
  for (const time of [notBefore, notAfter]) {
    if (!Number.isInteger(time) || time < 0 || time > LAST_TIME) {
      throw new RaTlsError(
        'invalid-field',
        `A certificate cannot carry the time ${time}; the last year is 9999`,
      );
    }
  }
  if (notBefore >= notAfter) {
    throw new RaTlsError('invalid-field', 'not_before must be earlier than not_after');
  }
}
