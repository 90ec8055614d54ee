import { type ByteSource, chunks } from '../byte-source.ts';
import { updateCrc } from '../format/crc32.ts';
import { CRC_OFFSET, type EifHeader, HEADER_BYTES, parseHeader } from '../format/header.ts';
import { type EifMetadata, parseMetadata, requireMetadataSize } from '../format/metadata.ts';
import { SECTION_HEADER_BYTES, type Section, walkSections } from '../format/sections.ts';
import { type EifSignature, parseSignatureSection, requireSignatureSize } from '../format/signature.ts';
import { PcrHasher, type Pcrs, signerPcr } from './pcrs.ts';

/** An enclave image that was read from end to end. Its form is right; checksum and signature may still be wrong. */
export interface Eif {
  readonly header: EifHeader;
  readonly sections: readonly Section[];
  readonly pcrs: Pcrs;
  /** PCR 8; absent when it is not signed. */
  readonly pcr8: Uint8Array | undefined;
  /** The checksum that the content has; the one that the header claims is `header.crc32`. */
  readonly crc32: number;
  readonly metadata: EifMetadata | undefined;
  readonly signature: EifSignature | undefined;
}

/**
 * Reads an enclave image once, in pieces: form, tables, measurements, checksum, metadata, signature.
 *
 * @throws EifError for every file that is not an enclave image of version 2 to 4
 */
export async function readEif(source: ByteSource): Promise<Eif> {
  const headerBytes = await source.read(0, Math.min(HEADER_BYTES, source.size));
  const header = parseHeader(headerBytes);
  const sections = await walkSections(source, header);
  for (const { name, size } of sections) {
    if (name === 'metadata') requireMetadataSize(size);
    if (name === 'signature') requireSignatureSize(size);
  }
  const payload = async (name: 'metadata' | 'signature'): Promise<Uint8Array | undefined> => {
    const section = sections.find((one) => one.name === name);
    return section && (await source.read(section.offset + SECTION_HEADER_BYTES, section.size));
  };
  // The small ones first: bad ones are refused before the large ones are read.
  const metadata = await payload('metadata');
  const signature = await payload('signature');
  const parsedMetadata = metadata && parseMetadata(metadata);
  const parsedSignature = signature && parseSignatureSection(signature);
  let crc = updateCrc(0, headerBytes.subarray(0, CRC_OFFSET));
  const hasher = new PcrHasher(source.size);
  try {
    for (const { name, offset, size } of sections) {
      crc = updateCrc(crc, await source.read(offset, SECTION_HEADER_BYTES));
      const measure = hasher.section(name);
      for await (const piece of chunks(source, offset + SECTION_HEADER_BYTES, size)) {
        await measure(piece);
        crc = updateCrc(crc, piece);
      }
    }
    return {
      header,
      sections,
      pcrs: await hasher.digest(),
      pcr8: parsedSignature && signerPcr(parsedSignature.certificate.der),
      crc32: crc,
      metadata: parsedMetadata,
      signature: parsedSignature,
    };
  } finally {
    await hasher.close();
  }
}
