import { DerReader, derOid, derTag, derText, EncodingError, readDer, toHex } from '@dstack-cloud/encoding';
import { EifError } from './errors.ts';
import type { EifMetadata } from './format/metadata.ts';
import type { EifSignature } from './format/signature.ts';
import type { Eif } from './measure/read-eif.ts';
import { type Measurements, measurements } from './measurements.ts';
import { signatureHolds } from './verify.ts';

/** What `nitro-cli describe-eif` prints. */
export interface EifDescription {
  readonly EifVersion: number;
  readonly Measurements: Measurements;
  readonly IsSigned: boolean;
  readonly SigningCertificate?: {
    readonly IssuerName: Readonly<Record<string, string>>;
    readonly Algorithm: string;
    readonly NotBefore: string;
    readonly NotAfter: string;
    readonly Signature: string;
  };
  readonly CheckCRC: boolean;
  readonly SignatureCheck?: boolean;
  readonly ImageName?: string;
  readonly ImageVersion?: string;
  readonly Metadata?: Readonly<Record<string, unknown>>;
}

/** Describes an image; nothing is refused that can be read. `verifyEif` is what refuses. */
export function describeEif(eif: Eif): EifDescription {
  const { signature, metadata } = eif;
  return {
    EifVersion: eif.header.version,
    Measurements: measurements(eif.pcrs, eif.pcr8),
    IsSigned: signature !== undefined,
    ...(signature === undefined ? {} : { SigningCertificate: describeCertificate(signature) }),
    CheckCRC: eif.crc32 === eif.header.crc32,
    ...(signature === undefined ? {} : { SignatureCheck: signatureHolds(signature, eif.pcrs.pcr0) }),
    ...(metadata === undefined
      ? {}
      : {
          ImageName: metadata.ImageName,
          ImageVersion: metadata.ImageVersion,
          Metadata: describeMetadata(metadata),
        }),
  };
}

/** The user's own members stand beside the others, and cannot take their place. */
function describeMetadata({ BuildMetadata, DockerInfo, CustomMetadata }: EifMetadata) {
  const custom =
    typeof CustomMetadata === 'object' && CustomMetadata !== null && !Array.isArray(CustomMetadata)
      ? CustomMetadata
      : {};
  return { ...custom, ...BuildMetadata, DockerInfo: DockerInfo ?? null };
}

/** Names of OpenSSL for the attributes that occur in certificates; others are shown by their number. */
const ATTRIBUTES: Readonly<Record<string, string>> = {
  '2.5.4.3': 'commonName',
  '2.5.4.4': 'surname',
  '2.5.4.5': 'serialNumber',
  '2.5.4.6': 'countryName',
  '2.5.4.7': 'localityName',
  '2.5.4.8': 'stateOrProvinceName',
  '2.5.4.9': 'streetAddress',
  '2.5.4.10': 'organizationName',
  '2.5.4.11': 'organizationalUnitName',
  '2.5.4.12': 'title',
  '2.5.4.42': 'givenName',
  '1.2.840.113549.1.9.1': 'emailAddress',
  '0.9.2342.19200300.100.1.25': 'domainComponent',
};
const ALGORITHMS: Readonly<Record<string, string>> = {
  'ecdsa-sha256': 'ecdsa-with-SHA256',
  'ecdsa-sha384': 'ecdsa-with-SHA384',
  'ecdsa-sha512': 'ecdsa-with-SHA512',
  'rsa-pkcs1-sha256': 'sha256WithRSAEncryption',
  'rsa-pkcs1-sha384': 'sha384WithRSAEncryption',
  'rsa-pkcs1-sha512': 'sha512WithRSAEncryption',
};
const MONTHS = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec'];

function describeCertificate({ certificate }: EifSignature) {
  return {
    IssuerName: issuerName(certificate.issuer),
    Algorithm: ALGORITHMS[certificate.scheme ?? ''] ?? certificate.scheme ?? 'unknown',
    NotBefore: opensslTime(certificate.notBefore),
    NotAfter: opensslTime(certificate.notAfter),
    Signature: (toHex(certificate.signature).toUpperCase().match(/../g) ?? []).join(':'),
  };
}

/** Attributes by name, sorted; of one that comes twice the last. */
function issuerName(name: Uint8Array): Record<string, string> {
  const found = new Map<string, string>();
  try {
    const sets = new DerReader(readDer(name).contents);
    while (!sets.done) {
      const pairs = new DerReader(sets.next(derTag.set).contents);
      while (!pairs.done) {
        const pair = new DerReader(pairs.next(derTag.sequence).contents);
        const oid = derOid(pair.next(derTag.oid));
        found.set(ATTRIBUTES[oid] ?? oid, derText(pair.next()));
      }
    }
  } catch (cause) {
    if (!(cause instanceof EncodingError)) throw cause;
    throw new EifError('certificate-invalid', 'The issuer of the signing certificate cannot be read', {
      cause,
    });
  }
  return Object.fromEntries([...found].sort(([a], [b]) => (a < b ? -1 : 1)));
}

/** As OpenSSL prints times: `Nov  9 23:34:21 2026 GMT`. */
function opensslTime(seconds: number): string {
  const date = new Date(seconds * 1000);
  const clock = date.toISOString().slice(11, 19);
  const day = String(date.getUTCDate()).padStart(2, ' ');
  return `${MONTHS[date.getUTCMonth()]} ${day} ${clock} ${date.getUTCFullYear()} GMT`;
}
