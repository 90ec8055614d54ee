import { CborDocument } from '../codec/cbor-document.ts';
import { AttestationError } from '../errors.ts';

const PAGE = 4096;
const MAX_SECTIONS = 64;
/** The firmware of a guest has some hundred; each costs a hash. */
const MAX_PAGES = 4096;
/** Section types of OVMF's SEV metadata. */
export const SECTION = { memory: 1, secrets: 2, cpuid: 3, svsmCaa: 4, kernelHashes: 0x10 } as const;
const SECTION_TYPES: readonly number[] = Object.values(SECTION);
const ROOTFS_HASH = /(^|\s)dstack\.rootfs_hash=[0-9a-fA-F]{64}(\s|$)/;

/** A range of memory that the firmware's SEV metadata names. */
export interface SnpSection {
  readonly gpa: number;
  readonly size: number;
  readonly type: number;
}

/** `measurement.snp.cbor` (docs/protocol/images.md sections 3.2 and 5.4). */
export interface SnpMeasurementDocument {
  readonly commandLine: string;
  /** Launch digest after the firmware's own pages, 48 bytes. */
  readonly ovmfHash: Uint8Array;
  /** 32 bytes each. */
  readonly kernelHash: Uint8Array;
  readonly initrdHash: Uint8Array;
  readonly hashesTableGpa: number;
  readonly resetEip: number;
  readonly sections: readonly SnpSection[];
}

/** @throws AttestationError `malformed`, `unsupported`, `image` for a command line without rootfs hash */
export function parseSnpDocument(bytes: Uint8Array): SnpMeasurementDocument {
  const document = CborDocument.parse(bytes, 'measurement.snp.cbor');
  document.version(3);
  const result = {
    commandLine: document.text('cmdline'),
    ovmfHash: document.bytes('ovmf_hash', 48),
    kernelHash: document.bytes('kernel_hash', 32),
    initrdHash: document.bytes('initrd_hash', 32),
    hashesTableGpa: document.number('hashes_table_gpa'),
    resetEip: document.number('reset_eip'),
    sections: document.list('ovmf_sections', MAX_SECTIONS).map(readSection),
  };
  document.finish();
  if (!ROOTFS_HASH.test(result.commandLine)) {
    throw new AttestationError(
      'image',
      'The command line does not bind a root file system (dstack.rootfs_hash)',
    );
  }
  if (result.resetEip > 0xffffffff || result.hashesTableGpa > 0xffffffff) {
    throw new AttestationError('malformed', 'measurement.snp.cbor with an address above 4 GiB');
  }
  checkSections(result.sections);
  return result;
}

function readSection(section: CborDocument): SnpSection {
  const result = { gpa: section.number('gpa'), size: section.number('size'), type: section.number('type') };
  section.finish();
  return result;
}

function checkSections(sections: readonly SnpSection[]): void {
  const unknown = sections.find(({ type }) => !SECTION_TYPES.includes(type));
  if (unknown !== undefined)
    throw new AttestationError('image', `OVMF section of unknown type ${unknown.type}`);
  if (!sections.some(({ type }) => type === SECTION.kernelHashes)) {
    throw new AttestationError(
      'image',
      'No OVMF section holds the kernel hashes: the kernel is not measured',
    );
  }
  const pages = sections.reduce((sum, section) => sum + Math.ceil(section.size / PAGE), 0);
  if (!(pages <= MAX_PAGES)) {
    throw new AttestationError('too-large', `OVMF sections of ${pages} pages`, {
      expected: `at most ${MAX_PAGES}`,
      found: String(pages),
    });
  }
}
