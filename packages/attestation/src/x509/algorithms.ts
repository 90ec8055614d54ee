import {
  contextTag,
  type DerElement,
  DerReader,
  derInteger,
  derOid,
  derTag,
  EncodingError,
  ecdsaDerToRaw,
  readDer,
} from '@dstack-cloud/encoding';
import type { HashName, SignatureScheme, VerifyKey } from '../crypto/backend.ts';
import { SCALAR_SIZE } from '../crypto/key-kind.ts';

const WITHOUT_PARAMETERS: Readonly<Record<string, SignatureScheme>> = {
  '1.2.840.10045.4.3.2': 'ecdsa-sha256',
  '1.2.840.10045.4.3.3': 'ecdsa-sha384',
  '1.2.840.10045.4.3.4': 'ecdsa-sha512',
};
const WITH_NULL: Readonly<Record<string, SignatureScheme>> = {
  '1.2.840.113549.1.1.11': 'rsa-pkcs1-sha256',
  '1.2.840.113549.1.1.12': 'rsa-pkcs1-sha384',
  '1.2.840.113549.1.1.13': 'rsa-pkcs1-sha512',
};
const RSASSA_PSS = '1.2.840.113549.1.1.10';
const MGF1 = '1.2.840.113549.1.1.8';
const HASHES: Readonly<Record<string, { name: HashName; size: number }>> = {
  '2.16.840.1.101.3.4.2.1': { name: 'sha256', size: 32 },
  '2.16.840.1.101.3.4.2.2': { name: 'sha384', size: 48 },
  '2.16.840.1.101.3.4.2.3': { name: 'sha512', size: 64 },
};

/** The scheme of an AlgorithmIdentifier, or undefined for one that is not accepted (SHA-1, MD5, Ed25519 …). */
export function signatureScheme(algorithm: DerElement): SignatureScheme | undefined {
  const reader = new DerReader(algorithm.contents);
  const oid = derOid(reader.next(derTag.oid));
  if (oid === RSASSA_PSS) return pssScheme(reader.next(derTag.sequence));
  const bare = WITHOUT_PARAMETERS[oid];
  if (bare) {
    reader.finish();
    return bare;
  }
  const withNull = WITH_NULL[oid];
  if (withNull) {
    // RFC 4055 section 5: the parameters MUST be NULL.
    reader.next(derTag.null);
    reader.finish();
  }
  return withNull;
}

/**
 * RSASSA-PSS-params of RFC 4055 section 3.1: one hash for both uses, salt of its size, trailer 1. DER would leave
 * the default trailer out; AMD's ASK and ARK certificates spell it out.
 */
function pssScheme(parameters: DerElement): SignatureScheme | undefined {
  const reader = new DerReader(parameters.contents);
  const hash = pssHash(reader.optional(contextTag(0)));
  const mask = reader.optional(contextTag(1));
  const salt = reader.optional(contextTag(2));
  const trailer = reader.optional(contextTag(3));
  reader.finish();
  if (!hash || !mask || !salt) return undefined;
  if (trailer && derInteger(readDer(trailer.contents)) !== 1n) return undefined;
  const maskReader = new DerReader(readDer(mask.contents).contents);
  if (derOid(maskReader.next(derTag.oid)) !== MGF1) return undefined;
  const maskHash = hashOf(maskReader.next(derTag.sequence));
  maskReader.finish();
  if (maskHash?.name !== hash.name) return undefined;
  if (derInteger(readDer(salt.contents)) !== BigInt(hash.size)) return undefined;
  return `rsa-pss-${hash.name}`;
}

function pssHash(field: DerElement | undefined) {
  return field && hashOf(readDer(field.contents));
}

function hashOf(algorithm: DerElement) {
  const reader = new DerReader(algorithm.contents);
  const oid = derOid(reader.next(derTag.oid));
  reader.optional(derTag.null);
  reader.finish();
  return HASHES[oid];
}

/** The signature as backends take it: r‖s for curves; undefined when it is not strict DER. */
export function backendSignature(key: VerifyKey, signature: Uint8Array): Uint8Array | undefined {
  if (key.kind === 'rsa') return signature;
  try {
    return ecdsaDerToRaw(signature, SCALAR_SIZE[key.kind]);
  } catch (error) {
    if (error instanceof EncodingError) return undefined;
    throw error;
  }
}
