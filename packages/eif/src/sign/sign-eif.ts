import { EifWriter, onePiece } from '../build/eif-writer.ts';
import { type ByteSource, chunks } from '../byte-source.ts';
import { EifError } from '../errors.ts';
import { SECTION_HEADER_BYTES } from '../format/sections.ts';
import type { Pcrs } from '../measure/pcrs.ts';
import { signerPcr } from '../measure/pcrs.ts';
import type { Eif } from '../measure/read-eif.ts';
import { makeSignature, requireSigner } from './make-signature.ts';
import type { EifSigner } from './signer.ts';

export interface SignEifOptions {
  readonly signer: EifSigner;
  /** The certificate must be valid then. */
  readonly now: Date;
  /** May be the file that is read: it is replaced as a whole, once all is checked. */
  readonly output: string;
}

/**
 * Signs an image, in the place of an earlier signature; everything else stays as it was, byte for byte.
 *
 * @param eif what was read from the source
 * @throws EifError `crc-differs` for a damaged image, `unsupported` for one of version 2
 */
export async function signEif(
  source: ByteSource,
  eif: Eif,
  { signer, now, output }: SignEifOptions,
): Promise<{ pcrs: Pcrs; pcr8: Uint8Array }> {
  const { header, sections, pcrs } = eif;
  if (eif.crc32 !== header.crc32)
    throw new EifError('crc-differs', 'A damaged enclave image is not signed: its checksum is wrong');
  if (header.version < 3)
    throw new EifError('unsupported', 'Enclave images of version 2 have no signature', {
      expected: 'version 3 or 4',
      found: String(header.version),
      hint: 'Build the image again',
    });
  const { certificate } = requireSigner(signer, now);
  const signature = await makeSignature(signer, pcrs.pcr0, now);
  const writer = await EifWriter.create(output, header, source.size);
  try {
    for (const { name, offset, size } of sections)
      if (name !== 'signature')
        await writer.section(name, size, chunks(source, offset + SECTION_HEADER_BYTES, size));
    // What was signed is what was written, also when the file changes between.
    const written = await writer.pcrs();
    if (Buffer.compare(written.pcr0, pcrs.pcr0) !== 0)
      throw new EifError('changed', `${source.name} changed while it was signed`);
    await writer.section('signature', signature.length, onePiece(signature));
    await writer.finish();
  } catch (error) {
    await writer.discard();
    throw error;
  }
  return { pcrs, pcr8: signerPcr(certificate.der) };
}
