import { OsImageError } from '../errors.ts';

/** What the loader has to find before a program or library runs (System V gABI, "Dynamic Linking"). */
export interface ElfNeeds {
  /** Path of the loader; undefined for libraries and static programs. */
  readonly interpreter: string | undefined;
  /** Names of libraries. */
  readonly libraries: readonly string[];
  /** Folders that are searched first, `$ORIGIN` not replaced. */
  readonly folders: readonly string[];
}

const MAGIC = [0x7f, 0x45, 0x4c, 0x46];
const CLASS_64 = 2;
const LITTLE_ENDIAN = 1;
const PT_LOAD = 1;
const PT_DYNAMIC = 2;
const PT_INTERP = 3;
const DT_NEEDED = 1;
const DT_STRTAB = 5;
const DT_RPATH = 15;
const DT_RUNPATH = 29;
const HEADER_BYTES = 64;
const PROGRAM_HEADER_BYTES = 56;
const MAX_ENTRIES = 65_536;
const MAX_TEXT = 4096;

/** Whether a file begins as an ELF file does. */
export function isElf(head: Uint8Array): boolean {
  return MAGIC.every((byte, index) => head[index] === byte);
}

/** Reads what a 64-bit ELF file needs; `name` is for messages. @throws OsImageError `format` */
export function elfNeeds(bytes: Uint8Array, name: string): ElfNeeds {
  const file = new ElfFile(bytes, name);
  const headers = file.programHeaders();
  const dynamic = headers.find(({ type }) => type === PT_DYNAMIC);
  const loader = headers.find(({ type }) => type === PT_INTERP);
  const interpreter = loader === undefined ? undefined : file.text(loader.offset);
  if (dynamic === undefined) return { interpreter, libraries: [], folders: [] };
  const entries = file.dynamicEntries(dynamic);
  const table = entries.find(({ tag }) => tag === DT_STRTAB)?.value;
  const start = table === undefined ? undefined : file.offsetOf(table, headers);
  const texts = (...tags: number[]): string[] =>
    entries
      .filter(({ tag }) => tags.includes(tag))
      .map(({ value }) => file.text((start ?? bytes.length) + value));
  return {
    interpreter,
    libraries: texts(DT_NEEDED),
    folders: texts(DT_RPATH, DT_RUNPATH).flatMap((text) => text.split(':')),
  };
}

interface ProgramHeader {
  readonly type: number;
  readonly offset: number;
  readonly address: number;
  readonly size: number;
}

class ElfFile {
  readonly #view: DataView;
  readonly #bytes: Uint8Array;
  readonly #name: string;

  constructor(bytes: Uint8Array, name: string) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#name = name;
    if (bytes.length < HEADER_BYTES || !isElf(bytes) || bytes[4] !== CLASS_64 || bytes[5] !== LITTLE_ENDIAN)
      throw this.#bad('it is no 64-bit little-endian one');
  }

  programHeaders(): ProgramHeader[] {
    const offset = this.#u64(32);
    const [size, count] = [this.#view.getUint16(54, true), this.#view.getUint16(56, true)];
    if (count > 0 && size !== PROGRAM_HEADER_BYTES) throw this.#bad('its program headers have another size');
    return Array.from({ length: count }, (_, index) => {
      const at = offset + index * size;
      return {
        type: this.#u32(at),
        offset: this.#u64(at + 8),
        address: this.#u64(at + 16),
        size: this.#u64(at + 32),
      };
    });
  }

  dynamicEntries({ offset, size }: ProgramHeader): { tag: number; value: number }[] {
    const count = Math.min(Math.floor(size / 16), MAX_ENTRIES);
    const entries = [];
    for (let index = 0; index < count; index++) {
      const tag = this.#view.getBigInt64(this.#within(offset + index * 16, 16), true);
      if (tag === 0n) break;
      // Others are addresses of any kind, which nothing here asks for.
      if ([DT_NEEDED, DT_STRTAB, DT_RPATH, DT_RUNPATH].includes(Number(tag)))
        entries.push({ tag: Number(tag), value: this.#u64(offset + index * 16 + 8) });
    }
    return entries;
  }

  /** Where an address of the loaded program lies in the file. */
  offsetOf(address: number, headers: readonly ProgramHeader[]): number {
    const segment = headers.find(
      (one) => one.type === PT_LOAD && address >= one.address && address < one.address + one.size,
    );
    if (segment === undefined) throw this.#bad('its strings are in no segment');
    return segment.offset + (address - segment.address);
  }

  text(offset: number): string {
    const start = this.#within(offset, 1);
    const end = this.#bytes.subarray(start, start + MAX_TEXT).indexOf(0);
    if (end < 0) throw this.#bad('it has a string without end');
    return new TextDecoder().decode(this.#bytes.subarray(start, start + end));
  }

  #u32(at: number): number {
    return this.#view.getUint32(this.#within(at, 4), true);
  }

  #u64(at: number): number {
    const value = this.#view.getBigUint64(this.#within(at, 8), true);
    if (value > BigInt(Number.MAX_SAFE_INTEGER)) throw this.#bad('it has an offset beyond all files');
    return Number(value);
  }

  #within(at: number, length: number): number {
    if (at < 0 || at + length > this.#bytes.length) throw this.#bad('it is cut off');
    return at;
  }

  #bad(why: string): OsImageError {
    return new OsImageError('format', `${this.#name} is no ELF file that this machine loads: ${why}`);
  }
}
