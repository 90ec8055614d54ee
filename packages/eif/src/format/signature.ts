import { createPublicKey, type KeyObject } from 'node:crypto';
import { type Certificate, parseCertificate } from '@dstack-cloud/attestation/certificate';
import { decodeCbor, decodePemAll, encodeCbor, utf8Text } from '@dstack-cloud/encoding';
import { EifError } from '../errors.ts';

/** Most of a signature section; a certificate with P-521 and its signature take about 4 KiB. */
const MAX_SIGNATURE_BYTES: number = 32 * 1024;
/** Each byte of certificate and signature is an item of its own. */
const MAX_ITEMS = 20_000;
const SHA384_BYTES = 48;

/** How each curve signs (RFC 9053 section 2.1). */
const CURVES = {
  prime256v1: { name: 'P-256', cose: -7, hash: 'sha256', signatureBytes: 64 },
  secp384r1: { name: 'P-384', cose: -35, hash: 'sha384', signatureBytes: 96 },
  secp521r1: { name: 'P-521', cose: -36, hash: 'sha512', signatureBytes: 132 },
} as const;

export type Curve = (typeof CURVES)[keyof typeof CURVES];

/** A certificate whose key can sign images. */
export interface Signatory {
  readonly certificate: Certificate;
  readonly publicKey: KeyObject;
  readonly curve: Curve;
}

/** The signature section, parsed; nothing about it is verified. */
export interface EifSignature extends Signatory {
  /** What is signed: Sig_structure of RFC 9052 section 4.4. */
  readonly signedBytes: Uint8Array;
  /** r‖s. */
  readonly signature: Uint8Array;
  /** The PCR 0 that is signed. */
  readonly pcr0: Uint8Array;
}

/**
 * Reads a signature section: a CBOR list of one map with the PEM file of the certificate and a COSE_Sign1 over PCR 0, both
 * as lists of numbers (docs/protocol/images.md section 6.4).
 *
 * @throws EifError `malformed`, `unsupported`, `too-large`, `certificate-invalid`
 */
export function parseSignatureSection(bytes: Uint8Array): EifSignature {
  requireSignatureSize(bytes.length);
  const list = cbor('The signature section', bytes);
  if (!Array.isArray(list) || list.length === 0) bad('The signature section is not a list of signatures');
  if (list.length > 1)
    throw new EifError(
      'unsupported',
      'The enclave image has more than one signature, and PCR 8 is of the first',
      {
        expected: '1',
        found: String(list.length),
      },
    );
  const entry = members(list[0], 'The entry of the signature section', ['signing_certificate', 'signature']);
  const { certificate, publicKey, curve } = readCertificate(byteList(entry.get('signing_certificate')));
  const cose = cbor('The signature', byteList(entry.get('signature')));
  if (!Array.isArray(cose) || cose.length !== 4) bad('The signature is no COSE_Sign1, a list of four');
  const [protectedHeader, unprotected, payload, signature] = cose as unknown[];
  if (
    !(protectedHeader instanceof Uint8Array) ||
    !(unprotected instanceof Map) ||
    !(payload instanceof Uint8Array) ||
    !(signature instanceof Uint8Array)
  )
    bad('The COSE_Sign1 of the signature has members of other types');
  if (unprotected.size > 0) bad('The COSE_Sign1 of the signature has an unprotected header');
  requireAlgorithm(protectedHeader, curve);
  if (signature.length !== curve.signatureBytes)
    throw new EifError('malformed', `The signature has not the length of one of ${curve.name}`, {
      expected: `${curve.signatureBytes} bytes`,
      found: `${signature.length} bytes`,
    });
  return {
    certificate,
    publicKey,
    curve,
    signedBytes: sigStructure(protectedHeader, payload),
    signature,
    pcr0: readPayload(payload),
  };
}

export interface UnsignedParts {
  readonly protectedHeader: Uint8Array;
  readonly payload: Uint8Array;
  readonly signedBytes: Uint8Array;
}

/** The parts of a signature before it is signed. */
export function unsignedParts(curve: Curve, pcr0: Uint8Array): UnsignedParts {
  const protectedHeader = encodeCbor(new Map([[1, curve.cose]]));
  const payload = ordered([
    ['register_index', 0],
    ['register_value', [...pcr0]],
  ]);
  return { protectedHeader, payload, signedBytes: sigStructure(protectedHeader, payload) };
}

/** The section as it stands in the file. */
export function encodeSignatureSection(
  certificatePem: Uint8Array,
  { protectedHeader, payload }: UnsignedParts,
  signature: Uint8Array,
): Uint8Array {
  const cose = encodeCbor([protectedHeader, new Map(), payload, signature]);
  const entry = ordered([
    ['signing_certificate', [...certificatePem]],
    ['signature', [...cose]],
  ]);
  const section = new Uint8Array(entry.length + 1);
  section[0] = 0x81;
  section.set(entry, 1);
  requireSignatureSize(section.length);
  return section;
}

/** A map with its members in this order, as nitro-cli writes them; deterministic CBOR would sort them. */
function ordered(pairs: readonly (readonly [string, unknown])[]): Uint8Array {
  const parts = pairs.flatMap(([key, value]) => [encodeCbor(key), encodeCbor(value)]);
  return Buffer.concat([Uint8Array.of(0xa0 | pairs.length), ...parts]);
}

function sigStructure(protectedHeader: Uint8Array, payload: Uint8Array): Uint8Array {
  return encodeCbor(['Signature1', protectedHeader, new Uint8Array(0), payload]);
}

function requireAlgorithm(header: Uint8Array, curve: Curve): void {
  const map = cbor('The protected header of the signature', header);
  if (!(map instanceof Map) || map.size !== 1 || !map.has(1))
    bad('The protected header of the signature names more or less than its algorithm');
  // Otherwise the same signature could be read under another hash.
  if (map.get(1) !== curve.cose)
    throw new EifError(
      'unsupported',
      `The algorithm of the signature is not that of its key, which is on ${curve.name}`,
      {
        expected: String(curve.cose),
        found: String(map.get(1)),
      },
    );
}

function readPayload(bytes: Uint8Array): Uint8Array {
  const map = members(cbor('The signed payload', bytes), 'The signed payload', [
    'register_index',
    'register_value',
  ]);
  if (map.get('register_index') !== 0)
    throw new EifError('unsupported', 'The signature is not over PCR 0', {
      expected: '0',
      found: String(map.get('register_index')),
    });
  const value = byteList(map.get('register_value'));
  if (value.length !== SHA384_BYTES)
    throw new EifError('malformed', 'The signed PCR 0 has another length', {
      expected: `${SHA384_BYTES} bytes`,
      found: `${value.length} bytes`,
    });
  return value;
}

/** The first certificate of a PEM file, whose key can sign an image. @throws EifError `certificate-invalid` */
export function readCertificate(pem: Uint8Array): Signatory {
  try {
    const [der] = decodePemAll(utf8Text(pem), 'CERTIFICATE');
    if (der === undefined) throw new Error('there is no PEM block CERTIFICATE');
    const certificate = parseCertificate(der);
    const publicKey = createPublicKey({ key: Buffer.from(certificate.spki), format: 'der', type: 'spki' });
    const curve = curveOf(publicKey);
    return { certificate, publicKey, curve };
  } catch (cause) {
    if (cause instanceof EifError) throw cause;
    throw new EifError('certificate-invalid', 'The signing certificate cannot be read', { cause });
  }
}

/** @throws EifError `unsupported` for keys that cannot sign an image */
export function curveOf(key: KeyObject): Curve {
  const name = key.asymmetricKeyDetails?.namedCurve;
  const curve = Object.entries(CURVES).find(([known]) => known === name)?.[1];
  if (key.asymmetricKeyType === 'ec' && curve !== undefined) return curve;
  throw new EifError('unsupported', 'Enclave images are signed with elliptic curve keys', {
    expected: 'P-256, P-384 or P-521',
    found: name ?? key.asymmetricKeyType ?? 'another key',
  });
}

function cbor(what: string, bytes: Uint8Array): unknown {
  try {
    return decodeCbor(bytes, { maxItems: MAX_ITEMS });
  } catch (cause) {
    throw new EifError('malformed', `${what} cannot be read`, { cause });
  }
}

function members(value: unknown, what: string, names: readonly string[]): Map<unknown, unknown> {
  const isRight =
    value instanceof Map && value.size === names.length && names.every((name) => value.has(name));
  if (!isRight) throw new EifError('malformed', `${what} has other members`, { expected: names.join(', ') });
  return value;
}

/** A list of numbers below 256; a byte string says the same in fewer bytes. */
function byteList(value: unknown): Uint8Array {
  if (value instanceof Uint8Array) return value;
  const isRight =
    Array.isArray(value) && value.every((one) => Number.isInteger(one) && one >= 0 && one <= 0xff);
  if (!isRight) bad('The signature section has something else where bytes are expected');
  return Uint8Array.from(value as number[]);
}

export function requireSignatureSize(size: number): void {
  if (size > MAX_SIGNATURE_BYTES)
    throw new EifError('too-large', 'The signature section is too long', {
      expected: `at most ${MAX_SIGNATURE_BYTES} bytes`,
      found: `${size} bytes`,
    });
}

function bad(message: string): never {
  throw new EifError('malformed', message);
}
