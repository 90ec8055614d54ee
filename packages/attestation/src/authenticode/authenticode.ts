import type { CryptoBackend } from '../crypto/backend.ts';
import { AttestationError } from '../errors.ts';
import { type PeImage, parsePe } from './pe-image.ts';

export interface AuthenticodeDigest {
  readonly digest: Uint8Array;
  /**
   * False when the file has data after its sections, or gaps: firmware and tools that follow another rule
   * would then come to another digest. A builder must not make such files (docs/protocol/images.md section 2.1).
   */
  readonly regular: boolean;
}

/**
 * Authenticode digest as EDK2's firmware makes it (DxeImageVerificationLib, HashPeImage): headers without
 * CheckSum and certificate table entry, sections in file order, then whatever follows them up to the
 * certificate table, whether or not there is one. SHA-256 enters the TPM, SHA-384 the RTMRs.
 * @throws AttestationError `malformed`
 */
export function authenticodeDigest(
  file: Uint8Array,
  algorithm: 'sha256' | 'sha384',
  crypto: Pick<CryptoBackend, 'hash'>,
): AuthenticodeDigest {
  const image = parsePe(file);
  const { parts, hashed } = sectionParts(image);
  const tail = file.length - image.certificateTableSize - hashed;
  if (tail < 0) {
    throw new AttestationError('malformed', 'PE sections and certificate table overlap');
  }
  if (tail > 0) parts.push(file.subarray(hashed, hashed + tail));
  return {
    digest: crypto.hash(algorithm, ...headerParts(image), ...parts),
    regular: tail === 0 && isContiguous(image),
  };
}

/** Headers around the two fields that signing changes. */
function headerParts(image: PeImage): Uint8Array[] {
  const { file, sizeOfHeaders, checksumOffset, securityEntryOffset } = image;
  const afterChecksum = checksumOffset + 4;
  if (securityEntryOffset === undefined) {
    return [file.subarray(0, checksumOffset), file.subarray(afterChecksum, sizeOfHeaders)];
  }
  return [
    file.subarray(0, checksumOffset),
    file.subarray(afterChecksum, securityEntryOffset),
    file.subarray(securityEntryOffset + 8, sizeOfHeaders),
  ];
}

/** Raw data in ascending file order; `hashed` is SUM_OF_BYTES_HASHED, which the tail starts at. */
function sectionParts(image: PeImage): { parts: Uint8Array[]; hashed: number } {
  const sections = fileOrder(image);
  const parts = sections.map((section) => image.file.subarray(section.offset, section.offset + section.size));
  const hashed = sections.reduce((sum, section) => sum + section.size, image.sizeOfHeaders);
  return { parts, hashed };
}

function isContiguous(image: PeImage): boolean {
  let end = image.sizeOfHeaders;
  for (const section of fileOrder(image)) {
    if (section.offset !== end) return false;
    end += section.size;
  }
  return true;
}

function fileOrder(image: PeImage): PeImage['sections'] {
  return image.sections.filter((section) => section.size > 0).sort((a, b) => a.offset - b.offset);
}
