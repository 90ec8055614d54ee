import { utf8 } from '@dstack-cloud/encoding';
import type { CryptoBackend } from '../crypto/backend.ts';
import { AttestationError } from '../errors.ts';
import { authenticodeDigest } from './authenticode.ts';
import { parsePe, sectionBytes } from './pe-image.ts';

/**
 * Sections that systemd-stub measures into PCR 11, in its order (systemd `UnifiedSection`; `.pcrsig` is left
 * out as it signs the result). Version 252 knows the first four of those that our images have.
 */
export const MEASURED_SECTIONS = [
  '.linux',
  '.osrel',
  '.cmdline',
  '.initrd',
  '.splash',
  '.dtb',
  '.uname',
  '.sbat',
  '.pcrpkey',
] as const;

/** What systemd-stub 252 measures; it carries `.sbat` but does not measure it. */
export const MEASURED_SECTIONS_252: readonly string[] = [
  '.linux',
  '.osrel',
  '.cmdline',
  '.initrd',
  '.splash',
  '.dtb',
];

/** A unified kernel image: the sections by name, as they lie in memory. */
export interface UnifiedKernelImage {
  readonly file: Uint8Array;
  readonly sections: ReadonlyMap<string, Uint8Array>;
  readonly kernel: Uint8Array;
  readonly initrd: Uint8Array;
  readonly commandLine: Uint8Array;
}

/**
 * Reads a UKI.
 * @throws AttestationError `malformed` when it is no PE, names a section twice, or lacks `.linux`
 */
export function readUki(file: Uint8Array): UnifiedKernelImage {
  const image = parsePe(file);
  const sections = new Map<string, Uint8Array>();
  for (const section of image.sections) {
    if (sections.has(section.name)) {
      throw new AttestationError('malformed', `UKI with two sections ${JSON.stringify(section.name)}`);
    }
    sections.set(section.name, sectionBytes(image, section));
  }
  const kernel = sections.get('.linux');
  if (!kernel) throw new AttestationError('malformed', 'UKI without a .linux section');
  const none = new Uint8Array(0);
  return {
    file,
    sections,
    kernel,
    initrd: sections.get('.initrd') ?? none,
    commandLine: sections.get('.cmdline') ?? none,
  };
}

/** SHA-256 digests that booting a UKI measures, by PCR, in order (docs/protocol/event-logs.md section 1). */
export interface UkiMeasurements {
  /** Authenticode digests of the UKI and of the kernel inside. */
  readonly uki: Uint8Array;
  readonly kernel: Uint8Array;
  /** On plain OVMF: boot option action, separator, UKI, kernel. */
  readonly pcr4: readonly Uint8Array[];
  /** Load options and initrd, by the kernel's EFI stub. */
  readonly pcr9: readonly Uint8Array[];
  /** Name and content of each section, by systemd-stub. */
  readonly pcr11: readonly Uint8Array[];
  /** On GCE: separator, GPT, UKI, kernel. The GPT digest depends on the disk and is given. */
  readonly gcePcr2: readonly Uint8Array[];
}

export interface UkiBoot {
  /** Digest of the EFI_GPT_DATA event on GCE, 32 bytes. */
  readonly gptDigest: Uint8Array;
  /** Sections which the stub measures; default those of current systemd. */
  readonly measuredSections?: readonly string[];
}

/** Predicts what firmware, stub and kernel will measure when this UKI boots. */
export function predictUki(
  uki: UnifiedKernelImage,
  boot: UkiBoot,
  crypto: Pick<CryptoBackend, 'hash'>,
): UkiMeasurements {
  const sha256 = (...parts: Uint8Array[]): Uint8Array => crypto.hash('sha256', ...parts);
  const ukiDigest = authenticodeDigest(uki.file, 'sha256', crypto).digest;
  const kernelDigest = authenticodeDigest(uki.kernel, 'sha256', crypto).digest;
  const separator = sha256(new Uint8Array(4));
  const pcr11: Uint8Array[] = [];
  for (const name of boot.measuredSections ?? MEASURED_SECTIONS) {
    const content = uki.sections.get(name);
    if (content) pcr11.push(sha256(utf8(`${name}\0`)), sha256(content));
  }
  return {
    uki: ukiDigest,
    kernel: kernelDigest,
    pcr4: [sha256(utf8('Calling EFI Application from Boot Option')), separator, ukiDigest, kernelDigest],
    pcr9: [sha256(loadOptions(uki.commandLine)), sha256(uki.initrd)],
    pcr11,
    gcePcr2: [separator, boot.gptDigest, ukiDigest, kernelDigest],
  };
}

/** The command line as the kernel's stub is handed it: UTF-16LE with a final NUL. */
export function loadOptions(commandLine: Uint8Array): Uint8Array {
  const end = commandLine.indexOf(0);
  const text = new TextDecoder().decode(end < 0 ? commandLine : commandLine.subarray(0, end));
  const out = new Uint8Array(2 * (text.length + 1));
  const view = new DataView(out.buffer);
  for (let i = 0; i < text.length; i++) view.setUint16(2 * i, text.charCodeAt(i), true);
  return out;
}
