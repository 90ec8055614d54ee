import { ByteReader, decodePem, toHex, utf8Text } from '@dstack-cloud/encoding';
import { decoding } from '../decoding.ts';
import { AttestationError } from '../errors.ts';
import { type Certificate, parseCertificate } from '../x509/certificate.ts';

/** Entry of the kernel's certificate table: GUID, offset, length (Linux `struct cert_table`, AMD 56421). */
const ENTRY_BYTES = 24;
const MAX_ENTRIES = 16;
const MAX_TABLE_BYTES = 64 * 1024;
const GUID = {
  ask: '4ab7b379bbac4fe4a02f05aef327c782',
  vcek: '63da758de6644564adc5f4b93be8accd',
  vlek: 'a8074bc2a25a483eaae639c045a0b8a1',
} as const;

/** The two certificates between a report and AMD's root. */
export interface SnpCertificates {
  readonly ask: Certificate;
  readonly vcek: Certificate;
}

/**
 * Certificates that came with a report: [ASK, VCEK], each PEM or DER, or one kernel certificate table
 * (chapter 20 section 6.1).
 * @throws AttestationError `malformed`, `unsupported` for a VLEK
 */
export function readCertChain(chain: readonly Uint8Array[]): SnpCertificates {
  const [first, second] = chain;
  if (chain.length === 2 && first && second)
    return { ask: readCertificate(first), vcek: readCertificate(second) };
  if (chain.length === 1 && first) return readTable(first);
  throw new AttestationError('malformed', 'SEV-SNP certificates must be ASK and VCEK, or one table', {
    expected: '2 certificates or 1 table',
    found: String(chain.length),
  });
}

/** One certificate, PEM or DER. */
export function readCertificate(bytes: Uint8Array): Certificate {
  // DER of a certificate starts with a SEQUENCE, PEM with a dash or blank.
  if (bytes[0] === 0x30) return parseCertificate(bytes);
  return decoding('SEV-SNP certificate', () => parseCertificate(decodePem(utf8Text(bytes), 'CERTIFICATE')));
}

function readTable(table: Uint8Array): SnpCertificates {
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
  return { ask: readCertificate(ask), vcek: readCertificate(vcek) };
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
