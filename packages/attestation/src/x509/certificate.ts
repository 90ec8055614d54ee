import {
  contextTag,
  type DerElement,
  DerReader,
  derBitString,
  derBoolean,
  derInteger,
  derOctetString,
  derOid,
  derTag,
  derText,
  derTime,
  EncodingError,
  equalBytes,
  readDer,
} from '@dstack-cloud/encoding';
import type { SignatureScheme } from '../crypto/backend.ts';
import { decoding } from '../decoding.ts';
import { AttestationError } from '../errors.ts';
import { signatureScheme } from './algorithms.ts';
import { derForms } from './der-form.ts';
import { type KeyUsage, type KnownExtensions, readKnownExtensions } from './extensions.ts';

/** One extension: its value is the contents of the OCTET STRING. */
export interface CertificateExtension {
  readonly oid: string;
  readonly critical: boolean;
  readonly value: Uint8Array;
}

export type { KeyUsage };

/** A parsed X.509 certificate. Nothing about it has been verified. */
export interface Certificate extends KnownExtensions {
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
}

const MAX_CERTIFICATE_BYTES = 1 << 20;
const MAX_CHAIN = 8;
const MAX_EXTENSIONS = 64;

/** Reads one certificate, RFC 5280 section 4.1. @throws AttestationError `malformed`, `too-large` */
export function parseCertificate(bytes: Uint8Array): Certificate {
  if (bytes.length > MAX_CERTIFICATE_BYTES) {
    throw new AttestationError('too-large', `Certificate of ${bytes.length} bytes`);
  }
  return decoding('Certificate', () => certificate(bytes));
}

/** Value of a certificate's extension, if it is there. */
export function extensionValue(certificate: Certificate, oid: string): Uint8Array | undefined {
  return certificate.extensions.find((extension) => extension.oid === oid)?.value;
}

/** First value of an attribute (by OID, e.g. `2.5.4.3` for CN) of a DER Name. */
export function nameAttribute(name: Uint8Array, oid: string): string | undefined {
  return decoding('Name', () => {
    const names = new DerReader(readDer(name).contents);
    while (!names.done) {
      const set = new DerReader(names.next(derTag.set).contents);
      while (!set.done) {
        const pair = new DerReader(set.next(derTag.sequence).contents);
        if (derOid(pair.next(derTag.oid)) === oid) return derText(pair.next());
      }
    }
    return undefined;
  });
}

/**
 * Certificates of a text, in order, at most 8: PEM, around whose blocks other text is ignored, or one in hex or base64.
 * @param known certificates that need not be parsed again when they occur in it
 */
export function parseCertificateChain(pem: string, known: readonly Certificate[] = []): Certificate[] {
  const blocks = derForms(pem, 'CERTIFICATE');
  if (blocks.length === 0) throw new AttestationError('malformed', 'Certificate chain: no certificate');
  if (blocks.length > MAX_CHAIN) {
    throw new AttestationError('too-large', `Certificate chain: more than ${MAX_CHAIN} certificates`);
  }
  return blocks.map((der) => known.find((item) => equalBytes(item.der, der)) ?? parseCertificate(der));
}

function certificate(bytes: Uint8Array): Certificate {
  const outer = readDer(bytes);
  if (outer.tag !== derTag.sequence) throw new EncodingError('unexpected-tag', 'no SEQUENCE');
  const reader = new DerReader(outer.contents);
  const tbs = reader.next(derTag.sequence);
  const algorithm = reader.next(derTag.sequence);
  const signature = derBitString(reader.next(derTag.bitString));
  reader.finish();
  if (signature.unusedBits !== 0) throw new EncodingError('invalid-value', 'signature is not whole bytes');

  const fields = new DerReader(tbs.contents);
  const version = readVersion(fields.optional(contextTag(0)));
  const serial = fields.next(derTag.integer);
  checkSerial(serial);
  const innerAlgorithm = fields.next(derTag.sequence);
  // RFC 5280 section 4.1.1.2: both AlgorithmIdentifiers must be the same.
  if (!equalBytes(innerAlgorithm.raw, algorithm.raw)) {
    throw new EncodingError('invalid-value', 'two signature algorithms');
  }
  const issuer = fields.next(derTag.sequence).raw;
  const validity = new DerReader(fields.next(derTag.sequence).contents);
  const notBefore = derTime(validity.next());
  const notAfter = derTime(validity.next());
  validity.finish();
  const subject = fields.next(derTag.sequence).raw;
  const spki = fields.next(derTag.sequence).raw;
  if (version >= 2) {
    fields.optional(contextTag(1, false));
    fields.optional(contextTag(2, false));
  }
  const extensions = version === 3 ? readExtensions(fields.optional(contextTag(3))) : [];
  fields.finish();
  return {
    der: bytes,
    tbs: tbs.raw,
    version,
    serial: serial.contents,
    scheme: signatureScheme(algorithm),
    signature: signature.bytes,
    issuer,
    subject,
    notBefore,
    notAfter,
    spki,
    extensions,
    ...readKnownExtensions(extensions),
  };
}

function readVersion(field: DerElement | undefined): number {
  if (!field) return 1;
  const value = derInteger(readDer(field.contents));
  if (value !== 1n && value !== 2n) throw new EncodingError('invalid-value', 'unknown version');
  return Number(value) + 1;
}

/**
 * RFC 5280 section 4.1.2.2: at most 20 octets (and one for the sign), not negative. Zero does not conform, but
 * readers should bear it: AMD's VCEK certificates all have it.
 */
function checkSerial(serial: DerElement): void {
  if (serial.contents.length > 21 || derInteger(serial) < 0n) {
    throw new EncodingError('invalid-value', 'serial number is negative or longer than 20 octets');
  }
}

/** Extensions in order; none twice (RFC 5280 section 4.2). Also used for CRLs. */
export function readExtensions(field: DerElement | undefined): CertificateExtension[] {
  if (!field) return [];
  const list = readDer(field.contents);
  if (list.tag !== derTag.sequence) throw new EncodingError('unexpected-tag', 'extensions are no SEQUENCE');
  return readExtensionList(list);
}

/** The members of an `Extensions` SEQUENCE. */
export function readExtensionList(list: DerElement): CertificateExtension[] {
  const reader = new DerReader(list.contents);
  const extensions: CertificateExtension[] = [];
  while (!reader.done) {
    const extension = new DerReader(reader.next(derTag.sequence).contents);
    const oid = derOid(extension.next(derTag.oid));
    const critical = extension.optional(derTag.boolean);
    const value = derOctetString(extension.next(derTag.octetString));
    extension.finish();
    if (extensions.some((known) => known.oid === oid)) {
      throw new EncodingError('invalid-value', `extension ${oid} twice`);
    }
    extensions.push({ oid, critical: critical !== undefined && derBoolean(critical), value });
    if (extensions.length > MAX_EXTENSIONS) throw new EncodingError('too-large', 'too many extensions');
  }
  return extensions;
}
