import { ByteWriter, utf8 } from '@dstack-cloud/encoding';
import { OsImageError } from '../errors.ts';

const FILE_ALIGNMENT = 512;
const PAGE = 4096;
const HEADERS = 1024;
const PE_OFFSET = 0x80;
/** "DSTKSTUB": where the stub keeps the places of its sections. */
const SECTIONS_MAGIC = utf8('DSTKSTUB');
const MAX_COMMAND_LINE = 2047;

const FLAGS = {
  code: 0x60000020,
  writableData: 0xc0000040,
  data: 0x40000040,
} as const;

/** The compiled stub: code and constants, then, from `dataStart` on, what it writes. */
export interface Stub {
  readonly program: Uint8Array;
  /** Offset of the writable part, a multiple of 4,096 bytes. */
  readonly dataStart: number;
  /** Offset of the entry point. */
  readonly entry: number;
}

export interface UkiParts {
  readonly stub: Stub;
  /** `/etc/os-release` of the image. */
  readonly osRelease: Uint8Array;
  /** ASCII, without a final NUL. */
  readonly commandLine: string;
  readonly initrd: Uint8Array;
  readonly kernel: Uint8Array;
}

interface Section {
  readonly name: string;
  readonly flags: number;
  readonly data: Uint8Array;
  readonly address: number;
  readonly offset: number;
}

/**
 * A unified kernel image (UAPI group specification "Unified Kernel Image"; PE/COFF format): our stub with the sections
 * `.osrel`, `.cmdline`, `.initrd` and `.linux`. The sections follow each other without gaps up to the end of the file,
 * and no certificate table or symbol table is there, so that every rule for its Authenticode digest gives the same.
 *
 * @throws OsImageError `format`
 */
export function writeUki({ stub, osRelease, commandLine, initrd, kernel }: UkiParts): Uint8Array {
  if (!/^[\x20-\x7e]+$/.test(commandLine) || commandLine.length > MAX_COMMAND_LINE)
    throw new OsImageError(
      'format',
      `A kernel command line is one line of ASCII of at most ${MAX_COMMAND_LINE} characters`,
    );
  for (const [name, data] of Object.entries({ osRelease, initrd, kernel }))
    if (data.length === 0) throw new OsImageError('format', `A unified kernel image needs its ${name}`);
  const data = stub.program.slice(stub.dataStart);
  if (stub.dataStart % PAGE !== 0 || !SECTIONS_MAGIC.every((byte, i) => data[i] === byte))
    throw new OsImageError('format', 'The stub has no table of sections at the start of its data');
  const sections = place([
    ['.text', FLAGS.code, stub.program.slice(0, stub.dataStart)],
    ['.data', FLAGS.writableData, data],
    ['.osrel', FLAGS.data, osRelease],
    ['.cmdline', FLAGS.data, utf8(commandLine)],
    ['.initrd', FLAGS.data, initrd],
    ['.linux', FLAGS.data, kernel],
  ]);
  const view = new DataView(data.buffer, data.byteOffset);
  ['.cmdline', '.initrd', '.linux'].forEach((name, index) => {
    const section = sections.find((one) => one.name === name)!;
    view.setUint32(8 + index * 8, section.address, true);
    view.setUint32(12 + index * 8, section.data.length, true);
  });
  const last = sections.at(-1)!;
  const file = new Uint8Array(last.offset + align(last.data.length, FILE_ALIGNMENT));
  file.set(headers(sections, stub.entry));
  for (const section of sections) file.set(section.data, section.offset);
  return file;
}

/** The stub's code must lie at the addresses that it was linked for, so headers take the page before it. */
function place(parts: readonly (readonly [name: string, flags: number, data: Uint8Array])[]): Section[] {
  let address = PAGE;
  let offset = HEADERS;
  return parts.map(([name, flags, data]) => {
    const section = { name, flags, data, address, offset };
    address += align(data.length, PAGE);
    offset += align(data.length, FILE_ALIGNMENT);
    return section;
  });
}

function headers(sections: readonly Section[], entry: number): Uint8Array {
  const text = sections[0]!;
  const last = sections.at(-1)!;
  const out = new ByteWriter().bytes(utf8('MZ')).bytes(new Uint8Array(58)).u32le(PE_OFFSET);
  out.bytes(new Uint8Array(PE_OFFSET - out.length)).bytes(utf8('PE\0\0'));
  // COFF header: x86-64, no time, no symbols; executable, addresses above 2 GiB, no debug information.
  out.u16le(0x8664).u16le(sections.length).u32le(0).u32le(0).u32le(0).u16le(240).u16le(0x0222);
  const initialised = sections
    .slice(1)
    .reduce((sum, { data }) => sum + align(data.length, FILE_ALIGNMENT), 0);
  // Optional header of PE32+.
  out.u16le(0x20b).u16le(0).u32le(align(text.data.length, FILE_ALIGNMENT)).u32le(initialised).u32le(0);
  out.u32le(text.address + entry).u32le(text.address);
  out.u64le(0n).u32le(PAGE).u32le(FILE_ALIGNMENT);
  out.u16le(0).u16le(0).u16le(0).u16le(0).u16le(0).u16le(0).u32le(0);
  out
    .u32le(last.address + align(last.data.length, PAGE))
    .u32le(HEADERS)
    .u32le(0);
  // EFI application; memory protection by section (NX_COMPAT).
  out.u16le(10).u16le(0x0100).u64le(0n).u64le(0n).u64le(0n).u64le(0n).u32le(0).u32le(16);
  out.bytes(new Uint8Array(16 * 8));
  for (const { name, flags, data, address, offset } of sections) {
    out
      .bytes(utf8(name.padEnd(8, '\0')))
      .u32le(data.length)
      .u32le(address);
    out
      .u32le(align(data.length, FILE_ALIGNMENT))
      .u32le(offset)
      .u32le(0)
      .u32le(0)
      .u16le(0)
      .u16le(0)
      .u32le(flags);
  }
  if (out.length > HEADERS) throw new OsImageError('format', 'The headers have no room for so many sections');
  return out.finish();
}

function align(value: number, to: number): number {
  return Math.ceil(value / to) * to;
}
