import type { SignatureScheme } from '../crypto/backend.ts';
import { AttestationError } from '../errors.ts';

/** One extension: its value is the contents of the OCTET STRING. */
export interface CertificateExtension {
  readonly oid: string;
  readonly critical: boolean;
  readonly value: Uint8Array;
}

export interface KeyUsage {
  readonly digitalSignature: boolean;
  readonly keyEncipherment: boolean;
  readonly keyCertSign: boolean;
  readonly crlSign: boolean;
}

/** A parsed X.509 certificate. Nothing about it has been verified. */
export interface Certificate {
  readonly der: Uint8Array;
  /** The signed part, as it stands. */
  readonly tbs: Uint8Array;
  /** 1, 2 or 3. */
  readonly version: number;
  /** Contents of the serial INTEGER. */
  readonly serial: Uint8Array;
  /** Undefined for algorithms that this library does not accept. */
  readonly scheme: SignatureScheme | undefined;
  readonly signature: Uint8Array;
  /** DER of the Name. */
  readonly issuer: Uint8Array;
  /** DER of the Name. */
  readonly subject: Uint8Array;
  /** Unix seconds. */
  readonly notBefore: number;
  readonly notAfter: number;
  /** DER of the SubjectPublicKeyInfo. */
  readonly spki: Uint8Array;
  readonly extensions: readonly CertificateExtension[];
  readonly isCa: boolean;
  readonly pathLength: number | undefined;
  readonly keyUsage: KeyUsage | undefined;
  /** OIDs. */
  readonly extendedKeyUsage: readonly string[] | undefined;
  readonly subjectKeyId: Uint8Array | undefined;
  readonly authorityKeyId: Uint8Array | undefined;
  /** URIs of CRL distribution points. */
  readonly crlUrls: readonly string[];
  /** URIs of AIA caIssuers. */
  readonly issuerUrls: readonly string[];
}

/** @throws AttestationError `malformed` */
export function parseCertificate(_der: Uint8Array): Certificate {
  throw new AttestationError('unsupported', 'not available');
}

/** Value of a certificate's extension, if it is there. */
export function extensionValue(certificate: Certificate, oid: string): Uint8Array | undefined {
  return certificate.extensions.find((extension) => extension.oid === oid)?.value;
}

/** First value of an attribute (by OID, e.g. `2.5.4.3` for CN) of a DER Name. */
export function nameAttribute(_name: Uint8Array, _oid: string): string | undefined {
  throw new AttestationError('unsupported', 'not available');
}

/** Certificates of a PEM text, in order; text around the blocks is ignored. At most 8. */
export function parseCertificateChain(_pem: string): Certificate[] {
  throw new AttestationError('unsupported', 'not available');
}
