import { AttestationError } from '../errors.ts';

/** The Windows loader's limit (PE format, COFF file header, NumberOfSections). */
const MAX_SECTIONS = 96;
const MZ = 0x5a4d;
const PE_SIGNATURE = 0x00004550;
const PE32 = 0x10b;
const PE32_PLUS = 0x20b;
/** Index of the certificate table among the data directories. */
const SECURITY_DIRECTORY = 4;

export interface PeSection {
  readonly name: string;
  readonly virtualAddress: number;
  readonly virtualSize: number;
  /** File offset and size of the raw data. */
  readonly offset: number;
  readonly size: number;
}

/** What Authenticode and UKI reading need of a PE file. */
export interface PeImage {
  readonly file: Uint8Array;
  readonly sizeOfHeaders: number;
  /** Offset of the 4-byte CheckSum. */
  readonly checksumOffset: number;
  /** Offset of the 8-byte certificate table entry; undefined when the header has none. */
  readonly securityEntryOffset: number | undefined;
  readonly certificateTableSize: number;
  readonly sections: readonly PeSection[];
}

/**
 * Reads the headers of a PE32 or PE32+ file (Microsoft PE format; docs/protocol/images.md section 2.1). The file may be
 * large; only its headers are looked at.
 * @throws AttestationError `malformed`, `too-large` for more than 96 sections
 */
export function parsePe(file: Uint8Array): PeImage {
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
  const need = (end: number, what: string): void => {
    if (end > file.length) throw new AttestationError('malformed', `PE file ends inside its ${what}`);
  };
  need(64, 'DOS header');
  if (view.getUint16(0, true) !== MZ) throw new AttestationError('malformed', 'Not a PE file: no MZ');
  const pe = view.getUint32(0x3c, true);
  need(pe + 24, 'COFF header');
  if (view.getUint32(pe, true) !== PE_SIGNATURE) {
    throw new AttestationError('malformed', 'Not a PE file: no PE signature');
  }
  const sectionCount = view.getUint16(pe + 6, true);
  if (sectionCount > MAX_SECTIONS) {
    throw new AttestationError('too-large', `PE file with ${sectionCount} sections`);
  }
  const optional = pe + 24;
  const optionalSize = view.getUint16(pe + 20, true);
  const table = optional + optionalSize;
  need(table + 40 * sectionCount, 'section table');
  const directories = directoriesOffset(view, optional, optionalSize);
  const sizeOfHeaders = view.getUint32(optional + 60, true);
  if (sizeOfHeaders < table || sizeOfHeaders > file.length) {
    throw new AttestationError('malformed', `PE file whose headers take ${sizeOfHeaders} bytes`);
  }
  const security = securityEntry(view, directories, optional, optionalSize);
  return {
    file,
    sizeOfHeaders,
    checksumOffset: optional + 64,
    securityEntryOffset: security,
    certificateTableSize: security === undefined ? 0 : view.getUint32(security + 4, true),
    sections: Array.from({ length: sectionCount }, (_, i) => readSection(view, file, table + 40 * i)),
  };
}

/** Raw bytes of a section as they lie in memory: `virtualSize` bytes, padded with zeros beyond the file's. */
export function sectionBytes(image: PeImage, section: PeSection): Uint8Array {
  const raw = image.file.subarray(
    section.offset,
    section.offset + Math.min(section.size, section.virtualSize),
  );
  if (section.virtualSize <= raw.length) return raw;
  if (section.virtualSize > image.file.length) {
    throw new AttestationError('too-large', `PE section of ${section.virtualSize} bytes in memory`);
  }
  const padded = new Uint8Array(section.virtualSize);
  padded.set(raw);
  return padded;
}

function directoriesOffset(view: DataView, optional: number, optionalSize: number): number {
  const magic = optionalSize >= 2 ? view.getUint16(optional, true) : 0;
  const offset = magic === PE32_PLUS ? 112 : magic === PE32 ? 96 : 0;
  if (offset === 0 || optionalSize < offset) {
    throw new AttestationError('malformed', 'PE file without a usable optional header');
  }
  return optional + offset;
}

function securityEntry(
  view: DataView,
  directories: number,
  optional: number,
  optionalSize: number,
): number | undefined {
  const count = view.getUint32(directories - 4, true);
  if (count <= SECURITY_DIRECTORY) return undefined;
  const entry = directories + 8 * SECURITY_DIRECTORY;
  if (entry + 8 > optional + optionalSize) {
    throw new AttestationError('malformed', 'PE file whose data directories reach beyond its header');
  }
  return entry;
}

function readSection(view: DataView, file: Uint8Array, at: number): PeSection {
  const nameBytes = file.subarray(at, at + 8);
  const end = nameBytes.indexOf(0);
  const section = {
    name: String.fromCharCode(...(end < 0 ? nameBytes : nameBytes.subarray(0, end))),
    virtualSize: view.getUint32(at + 8, true),
    virtualAddress: view.getUint32(at + 12, true),
    size: view.getUint32(at + 16, true),
    offset: view.getUint32(at + 20, true),
  };
  if (section.size > 0 && section.offset + section.size > file.length) {
    throw new AttestationError('malformed', 'PE section reaches beyond the file');
  }
  return section;
}
