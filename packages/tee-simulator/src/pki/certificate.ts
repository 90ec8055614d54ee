import { createHash } from 'node:crypto';
import { der } from '@dstack-cloud/encoding';
import type { SeededKey } from './seeded-key.ts';

const EXTENSION = {
  subjectKeyId: '2.5.29.14',
  keyUsage: '2.5.29.15',
  basicConstraints: '2.5.29.19',
  crlNumber: '2.5.29.20',
  authorityKeyId: '2.5.29.35',
  extendedKeyUsage: '2.5.29.37',
} as const;

/** Bits of keyUsage (RFC 5280 section 4.2.1.3) as the two profiles here use them. */
const KEY_USAGE = {
  leaf: der.bitString(Uint8Array.of(0b1000_0000), 7),
  ca: der.bitString(Uint8Array.of(0b1000_0110), 1),
} as const;

/** A name and the key that goes with it. */
export interface Party {
  readonly name: string;
  readonly key: SeededKey;
}

export interface CertificateRequest {
  readonly subject: { readonly name: string; readonly spki: Uint8Array };
  readonly issuer: Party;
  /** Up to 20 bytes, read as a positive number. */
  readonly serial: Uint8Array;
  /** Unix seconds. */
  readonly notBefore: number;
  readonly notAfter: number;
  readonly ca?: { readonly pathLength?: number };
  /** OIDs. */
  readonly extendedKeyUsage?: readonly string[];
  /** Complete extensions to add, made with `certificateExtension`. */
  readonly extensions?: readonly Uint8Array[];
}

/** An X.509 v3 certificate (RFC 5280 section 4.1), DER. */
export function issueCertificate(request: CertificateRequest): Uint8Array {
  const { subject, issuer, ca } = request;
  const basic = ca?.pathLength === undefined ? [] : [der.integer(ca.pathLength)];
  const extensions = [
    certificateExtension(EXTENSION.subjectKeyId, der.octetString(keyId(subject.spki))),
    certificateExtension(EXTENSION.authorityKeyId, authorityKeyId(issuer.key.spki)),
    certificateExtension(EXTENSION.keyUsage, ca ? KEY_USAGE.ca : KEY_USAGE.leaf, true),
    certificateExtension(
      EXTENSION.basicConstraints,
      ca ? der.sequence(der.boolean(true), ...basic) : der.sequence(),
      true,
    ),
    ...(request.extendedKeyUsage
      ? [
          certificateExtension(
            EXTENSION.extendedKeyUsage,
            der.sequence(...request.extendedKeyUsage.map(der.oid)),
          ),
        ]
      : []),
    ...(request.extensions ?? []),
  ];
  const tbs = der.sequence(
    der.explicit(0, der.integer(2)),
    der.integer(request.serial),
    issuer.key.algorithm,
    commonName(issuer.name),
    der.sequence(der.time(request.notBefore), der.time(request.notAfter)),
    commonName(subject.name),
    subject.spki,
    der.explicit(3, der.sequence(...extensions)),
  );
  return signed(tbs, issuer.key);
}

export interface RevocationListRequest {
  readonly issuer: Party;
  readonly number: number;
  /** Unix seconds. */
  readonly thisUpdate: number;
  readonly nextUpdate: number;
  readonly revoked?: readonly Uint8Array[];
}

/** An X.509 v2 CRL (RFC 5280 section 5), DER. */
export function issueRevocationList(request: RevocationListRequest): Uint8Array {
  const { issuer, revoked = [] } = request;
  const entries = revoked.map((serial) => der.sequence(der.integer(serial), der.time(request.thisUpdate)));
  const tbs = der.sequence(
    der.integer(1),
    issuer.key.algorithm,
    commonName(issuer.name),
    der.time(request.thisUpdate),
    der.time(request.nextUpdate),
    // An empty list is left out altogether (section 5.1.2.6).
    ...(entries.length > 0 ? [der.sequence(...entries)] : []),
    der.explicit(
      0,
      der.sequence(
        certificateExtension(EXTENSION.authorityKeyId, authorityKeyId(issuer.key.spki)),
        certificateExtension(EXTENSION.crlNumber, der.integer(request.number)),
      ),
    ),
  );
  return signed(tbs, issuer.key);
}

/** One Extension; `value` is the DER that extnValue wraps. */
export function certificateExtension(oid: string, value: Uint8Array, critical = false): Uint8Array {
  return der.sequence(der.oid(oid), ...(critical ? [der.boolean(true)] : []), der.octetString(value));
}

function signed(tbs: Uint8Array, key: SeededKey): Uint8Array {
  return der.sequence(tbs, key.algorithm, der.bitString(key.signDer(tbs)));
}

function commonName(text: string): Uint8Array {
  return der.sequence(der.set(der.sequence(der.oid('2.5.4.3'), der.utf8String(text))));
}

function authorityKeyId(spki: Uint8Array): Uint8Array {
  return der.sequence(der.implicit(0, keyId(spki)));
}

/** 20 bytes of the key's hash (RFC 7093 section 2, method 1). */
function keyId(spki: Uint8Array): Uint8Array {
  return new Uint8Array(createHash('sha256').update(spki).digest()).subarray(0, 20);
}
