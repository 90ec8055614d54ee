import { der } from '@dstack-cloud/encoding';
import { encodeSubjectAltNames } from '../names/subject-alt-name.ts';
import { X509_OID } from '../oid.ts';
import { subjectKeyIdentifier } from './serial-number.ts';

/** One `Extension` of RFC 5280 section 4.1. */
export function extension(oid: string, critical: boolean, value: Uint8Array): Uint8Array {
  const flag = critical ? [der.boolean(true)] : [];
  return der.sequence(der.oid(oid), ...flag, der.octetString(value));
}

/** An extension of ours: its payload is wrapped in a second OCTET STRING (docs/protocol/ra-tls.md section 1.1). */
export function wrappedExtension(oid: string, payload: Uint8Array): Uint8Array {
  return extension(oid, false, der.octetString(payload));
}

export function subjectAltName(names: readonly string[]): Uint8Array {
  return extension(X509_OID.subjectAltName, false, encodeSubjectAltNames(names));
}

/** digitalSignature; for a CA also keyCertSign and cRLSign (RFC 5280 section 4.2.1.3). */
export function keyUsage(isCa: boolean): Uint8Array {
  const bits = isCa ? der.bitString(Uint8Array.of(0x86), 1) : der.bitString(Uint8Array.of(0x80), 7);
  return extension(X509_OID.keyUsage, true, bits);
}

export function extendedKeyUsage(purposes: readonly string[]): Uint8Array {
  return extension(X509_OID.extendedKeyUsage, false, der.sequence(...purposes.map((oid) => der.oid(oid))));
}

export function keyIdentifier(spki: Uint8Array): Uint8Array {
  return extension(X509_OID.subjectKeyIdentifier, false, der.octetString(subjectKeyIdentifier(spki)));
}

export function caConstraints(pathLength: number): Uint8Array {
  const value = der.sequence(der.boolean(true), der.integer(pathLength));
  return extension(X509_OID.basicConstraints, true, value);
}
