import { concatBytes, padRight, utf8 } from '@dstack-cloud/encoding';
import { sha256, sha384, sha512 } from '@noble/hashes/sha2.js';
import { keccak_256, keccak_384, keccak_512, sha3_256, sha3_384, sha3_512 } from '@noble/hashes/sha3.js';
import { AttestationError } from './errors.ts';

/** Hash names of docs/protocol/evidence.md section 2 besides `raw`; the empty name is sha512. */
const HASHES = {
  '': sha512,
  sha256,
  sha384,
  sha512,
  'sha3-256': sha3_256,
  'sha3-384': sha3_384,
  'sha3-512': sha3_512,
  keccak256: keccak_256,
  keccak384: keccak_384,
  keccak512: keccak_512,
} as const;

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
  /** One of `ReportDataHash`; default sha512. */
  readonly hash?: string;
}

const SIZE = 64;

/**
 * HASH(tag ":" content), padded with zeros to 64 bytes; `raw` is the content itself, which must be 64 bytes.
 * @throws AttestationError `unsupported` for an unknown hash name, `malformed` for raw content of another size
 */
export function reportData(input: ReportDataInput): Uint8Array {
  const name = input.hash ?? 'sha512';
  if (name === 'raw') {
    if (input.content.length === SIZE) return input.content.slice();
    throw new AttestationError('malformed', 'Raw report data must have 64 bytes', {
      expected: `${SIZE}`,
      found: `${input.content.length}`,
    });
  }
  if (!Object.hasOwn(HASHES, name)) {
    throw new AttestationError('unsupported', `Unknown hash "${name}" for report data`, {
      expected: Object.keys(HASHES).filter(Boolean).join(', '),
      found: name,
    });
  }
  const hash = HASHES[name as keyof typeof HASHES];
  return padRight(hash(concatBytes(utf8(`${input.tag}:`), input.content)), SIZE);
}

/** Report data of an RA-TLS certificate's key, given as SubjectPublicKeyInfo DER. */
export function ratlsReportData(spki: Uint8Array): Uint8Array {
  return reportData({ tag: 'ratls-cert', content: spki });
}
