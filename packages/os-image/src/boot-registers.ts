import { predictUki, readUki, replayDigests } from '@dstack-cloud/attestation';
import { toHex } from '@dstack-cloud/encoding';
import { hashes } from './build/hashes.ts';
import { OsImageError } from './errors.ts';
import { readRegular } from './open-regular.ts';

/** Most of a unified kernel image, bytes. */
export const MAX_KERNEL_IMAGE: number = 1024 ** 3;
/** Without these our stub starts nothing. */
const SECTIONS = ['.cmdline', '.initrd', '.linux'];

/** What a vTPM shows after a unified kernel image of ours was booted, SHA-256 bank, hex. */
export interface BootRegisters {
  /** Authenticode digest of the image, as firmware measures it. */
  readonly uki: string;
  /** Boot applications where firmware measures them there (OVMF): the image and the kernel inside. */
  readonly pcr4: string;
  /** Command line and initramfs, as the kernel measures them. */
  readonly pcr9: string;
  /** What PCR 9 has of it: the command line of the image. */
  readonly commandLine: string;
}

/** Our stub measures no sections, and takes nothing from beside the image: PCR 11, 12 and 13 stay zero. */
export function bootRegistersOf(uki: Uint8Array): BootRegisters {
  const none = { gptDigest: new Uint8Array(32), measuredSections: [] };
  const parsed = readUki(uki);
  const missing = SECTIONS.find((name) => !parsed.sections.has(name));
  if (missing !== undefined) throw new OsImageError('format', `it has no section ${missing}`);
  const { uki: digest, pcr4, pcr9 } = predictUki(parsed, none, hashes);
  return {
    uki: toHex(digest),
    pcr4: toHex(replayDigests(pcr4, 'sha256')),
    pcr9: toHex(replayDigests(pcr9, 'sha256')),
    commandLine: new TextDecoder().decode(parsed.commandLine).replace(/[\s\0]+$/, ''),
  };
}

/** Those of a file; undefined when there is none. @throws OsImageError `not-an-image` */
export async function bootRegisters(path: string): Promise<BootRegisters | undefined> {
  const file = await readRegular(path, MAX_KERNEL_IMAGE);
  return file && ukiRegisters(path, file);
}

/** Those of the bytes that a file has. @throws OsImageError `not-an-image` */
export function ukiRegisters(path: string, file: Uint8Array): BootRegisters {
  try {
    return bootRegistersOf(file);
  } catch (cause) {
    throw new OsImageError(
      'not-an-image',
      `${path} is no whole unified kernel image (${(cause as Error).message}); build or download the image again`,
      { cause },
    );
  }
}
