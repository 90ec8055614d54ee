import { equalBytes, fromHex } from '@dstack-cloud/encoding';
import { AttestationError } from '../../errors.ts';

/** Firmware of a TD with its sections (Intel TDVF design guide section 11). */
export interface Tdvf {
  readonly file: Uint8Array;
  /** In descriptor order, which is the order of measurement. */
  readonly sections: readonly TdvfSection[];
}

export interface TdvfSection {
  /** 0 boot volume, 1 configuration volume, 2 TD HOB, 3 temporary memory. */
  readonly type: number;
  /** File offset and size of the contents. */
  readonly offset: number;
  readonly rawSize: number;
  /** Guest address and size, multiples of 4096. */
  readonly address: number;
  readonly memorySize: number;
  /** MR.EXTEND: the contents are measured. */
  readonly extend: boolean;
  /** PAGE.AUG: the pages come later and are not measured. */
  readonly augmented: boolean;
}

export const TDVF_HOB = 2;
export const TDVF_TEMPORARY = 3;
export const TDVF_PAGE = 4096;

/** Larger than any OVMF build. */
export const MAX_FIRMWARE_BYTES: number = 64 * 1024 * 1024;
const MAX_SECTIONS = 64;
/** 1 GiB of initial memory; real firmware has a few MiB. */
const MAX_PAGES = 2 ** 18;
const MAX_ADDRESS = 2n ** 46n;
/** The table of GUIDs ends before the reset vector. */
const RESET_VECTOR = 32;
const ENTRY_HEADER = 18;
const DESCRIPTOR_HEADER = 16;
const SECTION_BYTES = 32;
const SIGNATURE = 0x46564454; // TDVF
/** 96b582de-1fb2-45f7-baea-a366c55a082d and e47a6535-984a-4798-865e-4685a7bf8ec2, mixed-endian. */
const FOOTER_GUID = fromHex('de82b596b21ff745baeaa366c55a082d');
const METADATA_GUID = fromHex('35657ae44a989847865e4685a7bf8ec2');

/** @throws AttestationError `malformed`, `too-large`, `unsupported` */
export function parseTdvf(file: Uint8Array): Tdvf {
  if (file.length > MAX_FIRMWARE_BYTES) {
    throw new AttestationError('too-large', `Firmware of ${file.length} bytes`);
  }
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
  const at = file.length - descriptorDistance(file, view);
  if (at < 0 || at + DESCRIPTOR_HEADER > file.length) throw malformed('descriptor lies outside of the file');
  if (view.getUint32(at, true) !== SIGNATURE) throw malformed('descriptor without its signature');
  const version = view.getUint32(at + 8, true);
  if (version !== 1) {
    throw new AttestationError('unsupported', 'TDVF descriptor of another version', {
      expected: '1',
      found: String(version),
    });
  }
  const count = view.getUint32(at + 12, true);
  if (count > MAX_SECTIONS) throw new AttestationError('too-large', `TDVF with ${count} sections`);
  const end = at + DESCRIPTOR_HEADER + SECTION_BYTES * count;
  if (end > file.length) throw malformed('sections reach beyond the file');
  const sections = Array.from({ length: count }, (_, i) =>
    readSection(view, at + DESCRIPTOR_HEADER + SECTION_BYTES * i),
  );
  const pages = sections.reduce((sum, { memorySize }) => sum + memorySize / TDVF_PAGE, 0);
  if (pages > MAX_PAGES) throw new AttestationError('too-large', `TDVF with ${pages} pages`);
  return { file, sections };
}

/** Distance of the descriptor from the file's end, found by walking the GUID table backwards from its footer. */
function descriptorDistance(file: Uint8Array, view: DataView): number {
  let end = file.length - RESET_VECTOR;
  if (end < ENTRY_HEADER || !equalBytes(file.subarray(end - 16, end), FOOTER_GUID)) {
    throw malformed('table of GUIDs is missing');
  }
  const start = end - view.getUint16(end - ENTRY_HEADER, true);
  if (start < 0) throw malformed('table of GUIDs reaches beyond the file');
  end -= ENTRY_HEADER;
  while (end - ENTRY_HEADER >= start) {
    const length = view.getUint16(end - ENTRY_HEADER, true);
    if (length < ENTRY_HEADER || end - length < start)
      throw malformed('entry of the table of GUIDs is broken');
    if (equalBytes(file.subarray(end - 16, end), METADATA_GUID)) {
      if (length < ENTRY_HEADER + 4) throw malformed('metadata entry is too short');
      return view.getUint32(end - ENTRY_HEADER - 4, true);
    }
    end -= length;
  }
  throw malformed('it has no TDX metadata');
}

function readSection(view: DataView, at: number): TdvfSection {
  const offset = view.getUint32(at, true);
  const rawSize = view.getUint32(at + 4, true);
  const address = view.getBigUint64(at + 8, true);
  const memory = view.getBigUint64(at + 16, true);
  const attributes = view.getUint32(at + 28, true);
  if (address > MAX_ADDRESS || memory > MAX_ADDRESS) throw malformed('section lies beyond all memory');
  const section = {
    type: view.getUint32(at + 24, true),
    offset,
    rawSize,
    address: Number(address),
    memorySize: Number(memory),
    extend: (attributes & 1) !== 0,
    augmented: (attributes & 2) !== 0,
  };
  if (section.address % TDVF_PAGE !== 0 || section.memorySize % TDVF_PAGE !== 0) {
    throw malformed('section is not made of pages');
  }
  if (offset + rawSize > view.byteLength) throw malformed('section reaches beyond the file');
  if (section.extend && rawSize !== section.memorySize) {
    throw malformed('measured section is not as large as its memory');
  }
  return section;
}

function malformed(what: string): AttestationError {
  return new AttestationError('malformed', `Not the firmware of a TD: ${what}`);
}
