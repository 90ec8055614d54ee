import { ByteReader, equalBytes, toHex } from '@dstack-cloud/encoding';
import { decoding } from '../decoding.ts';
import { AttestationError } from '../errors.ts';
import { type Certificate, parseCertificate } from '../x509/certificate.ts';
import { derForms, isAsciiText } from '../x509/der-form.ts';
import { isVlek } from './key-roles.ts';

/** Entry of the kernel's certificate table: GUID, offset, length (Linux `struct cert_table`, AMD 56421). */
const ENTRY_BYTES = 24;
const MAX_ENTRIES = 16;
const MAX_TABLE_BYTES = 64 * 1024;
const GUID = {
  ask: '4ab7b379bbac4fe4a02f05aef327c782',
  vcek: '63da758de6644564adc5f4b93be8accd',
  vlek: 'a8074bc2a25a483eaae639c045a0b8a1',
} as const;
/** A VCEK, ASK, ASVK and ARK, each in two forms. */
const MAX_CERTIFICATES = 8;

/** What stands between a report and AMD's root. */
export interface SnpCertificates {
  readonly vcek: Certificate;
  /** The ASK, and what else came along, such as ASVK and ARK. */
  readonly issuers: readonly Certificate[];
}

/**
 * Certificates that came with a report: two in any order, of which one may be a bundle; or one bundle; or one kernel
 * certificate table.
 * @throws AttestationError `malformed`, `too-large`, `unsupported` for a VLEK
 */
export function readCertChain(chain: readonly Uint8Array[]): SnpCertificates {
  const [first, second] = chain;
  if (chain.length === 1 && first) {
    return pick(isAsciiText(first) ? readCertificates(first) : readTable(first));
  }
  if (chain.length === 2 && first && second) {
    return pick([...readCertificates(first), ...readCertificates(second)]);
  }
  throw new AttestationError('malformed', 'SEV-SNP certificates must be ASK and VCEK, or one table', {
    expected: '2 certificates, 1 PEM bundle or 1 table',
    found: String(chain.length),
  });
}

/** Certificates by what they are: the VCEK is the one that issued none of the others. */
function pick(all: readonly Certificate[]): SnpCertificates {
  const certificates = all.filter(({ der }, i) => all.findIndex((other) => equalBytes(other.der, der)) === i);
  if (certificates.length > MAX_CERTIFICATES) {
    throw new AttestationError('too-large', `${certificates.length} SEV-SNP certificates`);
  }
  const issues = (one: Certificate): boolean =>
    certificates.some((other) => other !== one && equalBytes(other.issuer, one.subject));
  const ends = certificates.filter((one) => !issues(one) && !equalBytes(one.subject, one.issuer));
  // An ASVK without its VLEK, or an ASK of another family, ends a chain too, but is a CA.
  const leaves = ends.length > 1 ? ends.filter(({ isCa }) => !isCa) : ends;
  const chipKeys = leaves.filter((leaf) => !isVlek(leaf));
  const [vcek] = chipKeys;
  if (leaves.length > 0 && !vcek) {
    throw new AttestationError('unsupported', 'SEV-SNP certificates with a VLEK: only VCEKs are accepted');
  }
  if (!vcek || chipKeys.length > 1) {
    throw new AttestationError('malformed', 'SEV-SNP certificates without one VCEK', {
      expected: '1 VCEK',
      found: `${chipKeys.length} among ${certificates.length} certificates`,
    });
  }
  const issuers = certificates.filter((one) => one !== vcek);
  if (issuers.length === 0) {
    throw new AttestationError('malformed', 'SEV-SNP certificates without the ASK that issued the VCEK');
  }
  return { vcek, issuers };
}

/** Certificates in any form; text around PEM blocks is ignored. */
function readCertificates(bytes: Uint8Array): Certificate[] {
  const ders = derForms(bytes, 'CERTIFICATE');
  if (ders.length === 0) throw new AttestationError('malformed', 'SEV-SNP certificate: no PEM block');
  if (ders.length > MAX_CERTIFICATES) {
    throw new AttestationError('too-large', `PEM text with ${ders.length} SEV-SNP certificates`);
  }
  return ders.map((der) => parseCertificate(der));
}

function readTable(table: Uint8Array): Certificate[] {
  if (table.length > MAX_TABLE_BYTES) {
    throw new AttestationError('too-large', `SEV-SNP certificate table of ${table.length} bytes`);
  }
  const entries = decoding('SEV-SNP certificate table', () => tableEntries(table));
  if (entries.has(GUID.vlek)) {
    throw new AttestationError(
      'unsupported',
      'SEV-SNP certificate table with a VLEK: only VCEKs are accepted',
    );
  }
  const ask = entries.get(GUID.ask);
  const vcek = entries.get(GUID.vcek);
  if (!ask || !vcek) {
    throw new AttestationError('malformed', 'SEV-SNP certificate table without ASK or VCEK');
  }
  return [...readCertificates(ask), ...readCertificates(vcek)];
}

function tableEntries(table: Uint8Array): Map<string, Uint8Array> {
  const end = toHex(new Uint8Array(16));
  const reader = new ByteReader(table);
  const entries = new Map<string, Uint8Array>();
  for (let i = 0; i <= MAX_ENTRIES; i++) {
    const guid = toHex(reader.take(16));
    const offset = reader.u32le();
    const length = reader.u32le();
    if (guid === end && offset === 0 && length === 0) return entries;
    if (entries.has(guid))
      throw new AttestationError('malformed', 'SEV-SNP certificate table repeats an entry');
    if (offset < ENTRY_BYTES || offset + length > table.length) {
      throw new AttestationError('malformed', 'SEV-SNP certificate table entry lies outside the table');
    }
    entries.set(guid, table.subarray(offset, offset + length));
  }
  throw new AttestationError('too-large', `SEV-SNP certificate table with more than ${MAX_ENTRIES} entries`);
}
