import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import {
  authenticodeDigest,
  encodeGcpDocument,
  encodeTdxDocument,
  measureTdxImage,
} from '@dstack-cloud/attestation';
import { toHex, utf8 } from '@dstack-cloud/encoding';
import { hashes } from './hashes.ts';

/** The measured parts of an image. */
export interface MeasuredParts {
  readonly firmware: Uint8Array;
  readonly kernel: Uint8Array;
  readonly initrd: Uint8Array;
  readonly commandLine: string;
  readonly uki: Uint8Array;
  /** Text of `metadata.json`. */
  readonly metadata: string;
}

export interface ImageHashes {
  /** SHA-256 Authenticode digest of the unified kernel image, hex; the image hash on GCP in the older form. */
  readonly authHash: string;
  /** SHA-256 of `sha256sum.txt`, hex; the image hash on every platform in the newer form. */
  readonly digest: string;
}

/** Memory for which the kernel's place in memory is the same as for every larger machine, bytes. */
export const MEASURED_MEMORY: number = 2 ** 31;

/**
 * Writes what names and measures an image: `auth_hash.txt`, `measurement.gcp.cbor`, `measurement.tdx.cbor`,
 * `sha256sum.txt` over the files that decide, `digest.txt`.
 */
export async function describeImage(folder: string, parts: MeasuredParts): Promise<ImageHashes> {
  const { firmware, kernel, initrd, commandLine, uki, metadata } = parts;
  const ukiDigest = authenticodeDigest(uki, 'sha256', hashes).digest;
  const tdx = measureTdxImage(
    {
      firmware,
      kernel,
      commandLine,
      initrd: { bytes: initrd.length, sha384: hashes.hash('sha384', initrd) },
    },
    MEASURED_MEMORY,
    hashes,
  );
  const files: readonly (readonly [name: string, bytes: Uint8Array])[] = [
    ['ovmf.fd', firmware],
    ['bzImage', kernel],
    ['initramfs.cpio.gz', initrd],
    ['metadata.json', utf8(metadata)],
    ['measurement.gcp.cbor', encodeGcpDocument(ukiDigest)],
    ['measurement.tdx.cbor', encodeTdxDocument(tdx)],
  ];
  const lines = files.map(([name, bytes]) => `${toHex(hashes.hash('sha256', bytes))}  ${name}\n`).join('');
  const digest = toHex(hashes.hash('sha256', utf8(lines)));
  for (const [name, bytes] of files) await writeFile(join(folder, name), bytes);
  await writeFile(join(folder, 'uki.efi'), uki);
  await writeFile(join(folder, 'sha256sum.txt'), lines);
  await writeFile(join(folder, 'digest.txt'), `${digest}\n`);
  await writeFile(join(folder, 'auth_hash.txt'), `${toHex(ukiDigest)}\n`);
  return { authHash: toHex(ukiDigest), digest };
}
