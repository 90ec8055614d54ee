import { constants, type KeyObject, sign } from 'node:crypto';
import { parseCertificate } from '@dstack-cloud/attestation';
import { der, utf8 } from '@dstack-cloud/encoding';
import { type MockKey, signWith } from './mock-keys.ts';

interface Extension {
  readonly oid: string;
  readonly critical: boolean;
  readonly value: Uint8Array;
}

/** A certificate before it is signed: every field may be changed. */
export interface CertificatePlan {
  /** DER of the Names. */
  subject: Uint8Array;
  issuer: Uint8Array;
  serial: Uint8Array;
  /** Unix seconds. */
  notBefore: number;
  notAfter: number;
  spki: Uint8Array;
  extensions: Extension[];
  signer: MockKey;
  /** RSA key in place of the signer: RSASSA-PSS with SHA-384, as AMD's. */
  rsa?: KeyObject;
}

/** A revocation list before it is signed. */
export interface CrlPlan {
  issuer: Uint8Array;
  thisUpdate: number;
  nextUpdate: number;
  serials: Uint8Array[];
  signer: MockKey;
  /** RSA key in place of the signer. */
  rsa?: KeyObject;
}

export const OID = {
  keyUsage: '2.5.29.15',
  basicConstraints: '2.5.29.19',
  extendedKeyUsage: '2.5.29.37',
  nameConstraints: '2.5.29.30',
  crlUrls: '2.5.29.31',
} as const;

/** Bits of keyUsage as they stand in the first byte. */
export const USAGE = { sign: 0x80, encipher: 0x20, certificates: 0x04, lists: 0x02 } as const;

const ALGORITHMS = { 'P-256': '1.2.840.10045.4.3.2', 'P-384': '1.2.840.10045.4.3.3' } as const;

const SHA384 = der.sequence(der.oid('2.16.840.1.101.3.4.2.2'));
const PSS_SHA384 = der.sequence(
  der.oid('1.2.840.113549.1.1.10'),
  der.sequence(
    der.explicit(0, SHA384),
    der.explicit(1, der.sequence(der.oid('1.2.840.113549.1.1.8'), SHA384)),
    der.explicit(2, der.integer(48)),
  ),
);

/** The plan of a certificate of the fixtures, for this key and signed by that one. */
export function planOf(certificate: Uint8Array, spki: Uint8Array, signer: MockKey): CertificatePlan {
  const { subject, issuer, serial, notBefore, notAfter, extensions } = parseCertificate(certificate);
  return { subject, issuer, serial, notBefore, notAfter, spki, extensions: [...extensions], signer };
}

const written = new WeakMap<CertificatePlan, Uint8Array>();

/** DER of the certificate; the same bytes each time, so change a plan before it is written. */
export function writeCertificate(plan: CertificatePlan): Uint8Array {
  const certificate = written.get(plan) ?? signedCertificate(plan);
  written.set(plan, certificate);
  return certificate;
}

function signedCertificate(plan: CertificatePlan): Uint8Array {
  const algorithm = algorithmOf(plan);
  const extensions = plan.extensions.map(({ oid, critical, value }) =>
    der.sequence(der.oid(oid), ...(critical ? [der.boolean(true)] : []), der.octetString(value)),
  );
  const tbs = der.sequence(
    der.explicit(0, der.integer(2)),
    der.integer(plan.serial),
    algorithm,
    plan.issuer,
    der.sequence(der.time(plan.notBefore), der.time(plan.notAfter)),
    plan.subject,
    plan.spki,
    ...(extensions.length > 0 ? [der.explicit(3, der.sequence(...extensions))] : []),
  );
  return der.sequence(tbs, algorithm, der.bitString(signatureOf(plan, tbs)));
}

type Signer = Pick<CertificatePlan, 'signer' | 'rsa'>;

function algorithmOf({ signer, rsa }: Signer): Uint8Array {
  return rsa ? PSS_SHA384 : der.sequence(der.oid(ALGORITHMS[signer.curve]));
}

function signatureOf({ signer, rsa: key }: Signer, tbs: Uint8Array): Uint8Array {
  if (!key) return signWith(signer, tbs, 'der');
  const padding = constants.RSA_PKCS1_PSS_PADDING;
  return new Uint8Array(sign('sha384', tbs, { key, padding, saltLength: 48 }));
}

export function writeCrl(plan: CrlPlan): Uint8Array {
  const algorithm = algorithmOf(plan);
  const entries = plan.serials.map((serial) => der.sequence(der.integer(serial), der.time(plan.thisUpdate)));
  const tbs = der.sequence(
    der.integer(1),
    algorithm,
    plan.issuer,
    der.time(plan.thisUpdate),
    der.time(plan.nextUpdate),
    ...(entries.length > 0 ? [der.sequence(...entries)] : []),
  );
  return der.sequence(tbs, algorithm, der.bitString(signatureOf(plan, tbs)));
}

/** Puts an extension in, in place of one of the same OID; without value it is taken out. */
export function setExtension(plan: CertificatePlan, oid: string, value?: Uint8Array, critical = true): void {
  plan.extensions = plan.extensions.filter((extension) => extension.oid !== oid);
  if (value) plan.extensions.push({ oid, critical, value });
}

export function setUsage(plan: CertificatePlan, bits: number): void {
  const unused = Math.log2(bits & -bits);
  setExtension(plan, OID.keyUsage, der.bitString(Uint8Array.of(bits), unused));
}

export function setCa(plan: CertificatePlan, isCa: boolean, pathLength?: number): void {
  const parts = [
    ...(isCa ? [der.boolean(true)] : []),
    ...(pathLength === undefined ? [] : [der.integer(pathLength)]),
  ];
  setExtension(plan, OID.basicConstraints, der.sequence(...parts));
}

export function setPurpose(plan: CertificatePlan, ...oids: string[]): void {
  setExtension(plan, OID.extendedKeyUsage, der.sequence(...oids.map((oid) => der.oid(oid))), false);
}

/** Has a certificate name the URL of its list. */
export function setCrlUrl(plan: CertificatePlan, url: string): void {
  const fullName = der.implicit(0, der.implicit(6, utf8(url)), true);
  setExtension(plan, OID.crlUrls, der.sequence(der.sequence(der.implicit(0, fullName, true))), false);
}

/** DER of a Name of one CN. */
export function commonName(text: string): Uint8Array {
  return der.sequence(der.set(der.sequence(der.oid('2.5.4.3'), der.utf8String(text))));
}
