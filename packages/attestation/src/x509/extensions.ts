import {
  contextTag,
  DerReader,
  derBitString,
  derBoolean,
  derInteger,
  derOctetString,
  derOid,
  derTag,
  EncodingError,
  readDer,
} from '@dstack-cloud/encoding';

export interface KeyUsage {
  readonly digitalSignature: boolean;
  readonly keyEncipherment: boolean;
  readonly keyCertSign: boolean;
  readonly crlSign: boolean;
}

/** What path validation reads from the extensions (RFC 5280 section 4.2). */
export interface KnownExtensions {
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

export const EXTENSION = {
  subjectKeyId: '2.5.29.14',
  keyUsage: '2.5.29.15',
  subjectAltName: '2.5.29.17',
  basicConstraints: '2.5.29.19',
  crlNumber: '2.5.29.20',
  deltaCrlIndicator: '2.5.29.27',
  issuingDistributionPoint: '2.5.29.28',
  nameConstraints: '2.5.29.30',
  crlDistributionPoints: '2.5.29.31',
  certificatePolicies: '2.5.29.32',
  policyMappings: '2.5.29.33',
  authorityKeyId: '2.5.29.35',
  policyConstraints: '2.5.29.36',
  extendedKeyUsage: '2.5.29.37',
  inhibitAnyPolicy: '2.5.29.54',
  authorityInfoAccess: '1.3.6.1.5.5.7.1.1',
} as const;

const CA_ISSUERS = '1.3.6.1.5.5.7.48.2';
const URI_TAG = contextTag(6, false);
const MAX_URLS = 16;

interface RawExtension {
  readonly oid: string;
  readonly value: Uint8Array;
}

/** Reads the extensions that this library knows. @throws EncodingError when one of them is malformed */
export function readKnownExtensions(extensions: readonly RawExtension[]): KnownExtensions {
  return {
    ...(read(extensions, EXTENSION.basicConstraints, basicConstraints) ?? NOT_A_CA),
    keyUsage: read(extensions, EXTENSION.keyUsage, keyUsage),
    extendedKeyUsage: read(extensions, EXTENSION.extendedKeyUsage, extendedKeyUsage),
    subjectKeyId: read(extensions, EXTENSION.subjectKeyId, subjectKeyId),
    authorityKeyId: read(extensions, EXTENSION.authorityKeyId, authorityKeyId),
    crlUrls: read(extensions, EXTENSION.crlDistributionPoints, crlUrls) ?? [],
    issuerUrls: read(extensions, EXTENSION.authorityInfoAccess, issuerUrls) ?? [],
  };
}

const NOT_A_CA = { isCa: false, pathLength: undefined };

function read<T>(
  extensions: readonly RawExtension[],
  oid: string,
  reader: (bytes: Uint8Array) => T,
): T | undefined {
  for (const extension of extensions) if (extension.oid === oid) return reader(extension.value);
  return undefined;
}

function subjectKeyId(bytes: Uint8Array): Uint8Array {
  return derOctetString(readDer(bytes));
}

function sequence(bytes: Uint8Array): DerReader {
  const element = readDer(bytes);
  if (element.tag !== derTag.sequence) throw new EncodingError('unexpected-tag', 'extension is no SEQUENCE');
  return new DerReader(element.contents);
}

function basicConstraints(bytes: Uint8Array): { isCa: boolean; pathLength: number | undefined } {
  const reader = sequence(bytes);
  const ca = reader.optional(derTag.boolean);
  const length = reader.optional(derTag.integer);
  reader.finish();
  const isCa = ca !== undefined && derBoolean(ca);
  if (!length) return { isCa, pathLength: undefined };
  const value = derInteger(length);
  // RFC 5280 section 4.2.1.9: only for CAs, and not negative.
  if (!isCa || value < 0n || value > 255n) throw new EncodingError('invalid-value', 'bad path length');
  return { isCa, pathLength: Number(value) };
}

function keyUsage(bytes: Uint8Array): KeyUsage {
  const bits = derBitString(readDer(bytes)).bytes;
  const first = bits[0] ?? 0;
  // Bit 0 is the most significant one (RFC 5280 section 4.2.1.3).
  return {
    digitalSignature: (first & 0x80) !== 0,
    keyEncipherment: (first & 0x20) !== 0,
    keyCertSign: (first & 0x04) !== 0,
    crlSign: (first & 0x02) !== 0,
  };
}

function extendedKeyUsage(bytes: Uint8Array): string[] {
  const reader = sequence(bytes);
  const usages: string[] = [];
  while (!reader.done && usages.length < 64) usages.push(derOid(reader.next(derTag.oid)));
  reader.finish();
  if (usages.length === 0) throw new EncodingError('invalid-value', 'empty extended key usage');
  return usages;
}

function authorityKeyId(bytes: Uint8Array): Uint8Array | undefined {
  return sequence(bytes).optional(contextTag(0, false))?.contents;
}

/** URIs of the fullName of every DistributionPoint, section 4.2.1.13. */
function crlUrls(bytes: Uint8Array): string[] {
  const reader = sequence(bytes);
  const urls: string[] = [];
  while (!reader.done && urls.length < MAX_URLS) {
    const point = new DerReader(reader.next(derTag.sequence).contents);
    const name = point.optional(contextTag(0));
    if (name) urls.push(...distributionPointUrls(name.contents));
  }
  return urls;
}

/** URIs of a DistributionPointName's fullName. */
export function distributionPointUrls(name: Uint8Array): string[] {
  const full = new DerReader(name).optional(contextTag(0));
  if (!full) return [];
  const names = new DerReader(full.contents);
  const urls: string[] = [];
  while (!names.done && urls.length < MAX_URLS) {
    const general = names.next();
    if (general.tag === URI_TAG) urls.push(ascii(general.contents));
  }
  return urls;
}

function issuerUrls(bytes: Uint8Array): string[] {
  const reader = sequence(bytes);
  const urls: string[] = [];
  while (!reader.done && urls.length < MAX_URLS) {
    const access = new DerReader(reader.next(derTag.sequence).contents);
    const method = derOid(access.next(derTag.oid));
    const location = access.next();
    if (method === CA_ISSUERS && location.tag === URI_TAG) urls.push(ascii(location.contents));
  }
  return urls;
}

function ascii(bytes: Uint8Array): string {
  if (bytes.length > 2048) throw new EncodingError('too-large', 'URI of more than 2048 bytes');
  return String.fromCharCode(...bytes);
}
