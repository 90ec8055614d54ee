import {
  contextTag,
  type DerElement,
  DerReader,
  derBitString,
  derBoolean,
  derInteger,
  derTag,
  derTime,
  EncodingError,
  equalBytes,
  readDer,
  toHex,
} from '@dstack-cloud/encoding';
import type { SignatureScheme } from '../crypto/backend.ts';
import { decoding } from '../decoding.ts';
import { AttestationError } from '../errors.ts';
import { signatureScheme } from './algorithms.ts';
import { type CertificateExtension, readExtensionList, readExtensions } from './certificate.ts';
import { distributionPointUrls, EXTENSION } from './extensions.ts';

/** A parsed CertificateList. Nothing about it has been verified. */
export interface CertificateRevocationList {
  readonly der: Uint8Array;
  readonly tbs: Uint8Array;
  readonly scheme: SignatureScheme | undefined;
  readonly signature: Uint8Array;
  /** DER of the Name. */
  readonly issuer: Uint8Array;
  /** Unix seconds. */
  readonly thisUpdate: number;
  readonly nextUpdate: number;
  /** Lower-case hex of the serials' INTEGER contents. */
  readonly revokedSerials: ReadonlySet<string>;
  /** URIs of a critical issuing distribution point; undefined when the list covers all certificates. */
  readonly scopeUrls: readonly string[] | undefined;
}

const MAX_CRL_BYTES = 4 << 20;
const MAX_CRL_ENTRIES = 100_000;

/**
 * Reads a CRL, RFC 5280 section 5. Refused besides malformed ones: lists without nextUpdate (they would be in
 * force for ever), delta and indirect lists, and unknown critical extensions.
 * @throws AttestationError `malformed`, `unsupported`, `too-large`
 */
export function parseCrl(bytes: Uint8Array): CertificateRevocationList {
  if (bytes.length > MAX_CRL_BYTES) throw new AttestationError('too-large', `CRL of ${bytes.length} bytes`);
  return decoding('CRL', () => crl(bytes));
}

function crl(bytes: Uint8Array): CertificateRevocationList {
  const outer = readDer(bytes);
  if (outer.tag !== derTag.sequence) throw new EncodingError('unexpected-tag', 'no SEQUENCE');
  const reader = new DerReader(outer.contents);
  const tbs = reader.next(derTag.sequence);
  const algorithm = reader.next(derTag.sequence);
  const signature = derBitString(reader.next(derTag.bitString));
  reader.finish();
  if (signature.unusedBits !== 0) throw new EncodingError('invalid-value', 'signature is not whole bytes');

  const fields = new DerReader(tbs.contents);
  const version = fields.optional(derTag.integer);
  if (version && derInteger(version) !== 1n) throw new EncodingError('invalid-value', 'unknown version');
  if (!equalBytes(fields.next(derTag.sequence).raw, algorithm.raw)) {
    throw new EncodingError('invalid-value', 'two signature algorithms');
  }
  const issuer = fields.next(derTag.sequence).raw;
  const thisUpdate = derTime(fields.next());
  if (fields.nextTag !== derTag.utcTime && fields.nextTag !== derTag.generalizedTime) {
    throw new EncodingError('invalid-value', 'no nextUpdate');
  }
  const nextUpdate = derTime(fields.next());
  const revokedSerials = readEntries(fields.optional(derTag.sequence));
  const scopeUrls = readScope(readExtensions(fields.optional(contextTag(0))));
  fields.finish();
  return {
    der: bytes,
    tbs: tbs.raw,
    scheme: signatureScheme(algorithm),
    signature: signature.bytes,
    issuer,
    thisUpdate,
    nextUpdate,
    revokedSerials,
    scopeUrls,
  };
}

function readEntries(list: DerElement | undefined): ReadonlySet<string> {
  const serials = new Set<string>();
  if (!list) return serials;
  const reader = new DerReader(list.contents);
  // Nearly all entries of a list have the same extensions (a reason): each form is read once.
  let known: Uint8Array | undefined;
  while (!reader.done) {
    const entry = new DerReader(reader.next(derTag.sequence).contents);
    const serial = entry.next(derTag.integer).contents;
    checkSerial(serial);
    const time = entry.next().tag;
    if (time !== derTag.utcTime && time !== derTag.generalizedTime) {
      throw new EncodingError('unexpected-tag', 'revocation date is no time');
    }
    const extensions = entry.optional(derTag.sequence);
    entry.finish();
    // A critical certificateIssuer makes an indirect list, whose entries are of other issuers.
    if (extensions && !(known && equalBytes(known, extensions.contents))) {
      refuseCritical(readExtensionList(extensions), []);
      known = extensions.contents;
    }
    serials.add(toHex(serial));
    if (serials.size > MAX_CRL_ENTRIES) throw new EncodingError('too-large', 'too many entries');
  }
  return serials;
}

/** Lists are long: the rules of DER INTEGER without making a number of it. */
function checkSerial(bytes: Uint8Array): void {
  const [first, second] = bytes;
  const isMinimal = second === undefined || (first === 0 ? second >= 0x80 : first !== 0xff || second < 0x80);
  if (first === undefined || bytes.length > 64 || !isMinimal) {
    throw new EncodingError('invalid-value', 'serial number is no DER INTEGER');
  }
}

/** Section 5.2.5: only a distribution point's name may narrow the list; other limits are refused. */
function readScope(extensions: readonly CertificateExtension[]): readonly string[] | undefined {
  refuseCritical(extensions, [EXTENSION.issuingDistributionPoint]);
  if (extensions.some((extension) => extension.oid === EXTENSION.deltaCrlIndicator)) {
    throw new AttestationError('unsupported', 'Delta CRLs are not accepted');
  }
  const scope = extensions.find((extension) => extension.oid === EXTENSION.issuingDistributionPoint);
  if (!scope) return undefined;
  const reader = new DerReader(readDer(scope.value).contents);
  const name = reader.optional(contextTag(0));
  while (!reader.done) {
    const limit = reader.next();
    // onlyContainsUserCerts and the other BOOLEANs default to FALSE.
    if (derBoolean({ tag: derTag.boolean, contents: limit.contents, raw: limit.raw })) {
      throw new AttestationError('unsupported', 'CRL covers only a part of the certificates');
    }
  }
  return name ? distributionPointUrls(name.contents) : undefined;
}

function refuseCritical(extensions: readonly CertificateExtension[], known: readonly string[]): void {
  const unknown = extensions.find((extension) => extension.critical && !known.includes(extension.oid));
  if (unknown) {
    throw new AttestationError('unsupported', `CRL has an unknown critical extension ${unknown.oid}`);
  }
}
