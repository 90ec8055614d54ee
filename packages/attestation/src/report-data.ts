import { AttestationError } from './errors.ts';

/** Hash names of chapter 20 section 1.2; the empty name is sha512. */
export type ReportDataHash =
  | ''
  | 'sha256'
  | 'sha384'
  | 'sha512'
  | 'sha3-256'
  | 'sha3-384'
  | 'sha3-512'
  | 'keccak256'
  | 'keccak384'
  | 'keccak512'
  | 'raw';

export interface ReportDataInput {
  /** `kms-root-ca`, `ratls-cert`, `app-data`, or the caller's own. */
  readonly tag: string;
  readonly content: Uint8Array;
  /** Default sha512; any other name than those of `ReportDataHash` is refused. */
  readonly hash?: string;
}

/** 64 bytes: HASH(tag ":" content), padded with zeros. */
export function reportData(_input: ReportDataInput): Uint8Array {
  throw new AttestationError('unsupported', 'not available');
}

/** Report data of an RA-TLS certificate's key, given as SubjectPublicKeyInfo DER. */
export function ratlsReportData(spki: Uint8Array): Uint8Array {
  return reportData({ tag: 'ratls-cert', content: spki });
}
