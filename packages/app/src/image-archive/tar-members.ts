import { isZero } from '@dstack-cloud/encoding';
import { AppError } from '../errors.ts';
import { type ByteRange, partOf } from './byte-range.ts';

/** A regular file in a tar archive. */
export interface TarFile {
  /** Without a leading `./` or `/`. */
  readonly name: string;
  readonly size: number;
  readonly content: ByteRange;
}

const BLOCK = 512;
/** Most members of an archive, whatever they are. */
const MAX_MEMBERS = 20_000;
/** Largest extended header, bytes: it holds names. */
const MAX_EXTENSION = 64 * 1024;
/** Longest name, characters: PATH_MAX of Linux. Callers keep the names of a whole archive. */
const MAX_NAME = 4096;

/**
 * The regular files of a tar archive (POSIX.1-2017 pax, "ustar Interchange Format", with GNU's long names and large
 * sizes), without reading what is in them. Other members are passed over: nothing is ever unpacked.
 *
 * @throws AppError `image-archive-invalid`
 */
export async function* tarFiles(archive: ByteRange): AsyncGenerator<TarFile> {
  let next: { path?: string; size?: number } = {};
  let at = 0;
  for (let members = 0; ; members++) {
    if (members > MAX_MEMBERS) throw invalid(`has more than ${MAX_MEMBERS} members`);
    const header = await archive.read(at, BLOCK);
    if (header.length < BLOCK) throw invalid('ends early, or is no tar archive');
    if (isZero(header)) return;
    requireChecksum(header);
    const type = String.fromCharCode(header[156]!);
    const size = next.size ?? numberAt(header, 124);
    const content = partOf(archive, at + BLOCK, size);
    at += BLOCK + Math.ceil(size / BLOCK) * BLOCK;
    if (!Number.isSafeInteger(at)) throw invalid('has a member of an impossible size');
    if (type === 'x' || type === 'L') {
      if (size > MAX_EXTENSION) throw invalid('has an extended header that is too large');
      const bytes = await content.read(0, size);
      next = type === 'L' ? { ...next, path: textOf(bytes) } : { ...next, ...paxFields(bytes) };
      continue;
    }
    const name = (next.path ?? nameOf(header)).replace(/^(?:\.?\/)+/, '');
    if (name.length > MAX_NAME) throw invalid(`has a member with a name of more than ${MAX_NAME} characters`);
    if (type !== 'g' && type !== 'K') next = {};
    if (type === '0' || type === '\0') yield { name, size, content };
  }
}

function nameOf(header: Uint8Array): string {
  const prefix = textOf(header.subarray(257, 262)) === 'ustar' ? textOf(header.subarray(345, 500)) : '';
  const name = textOf(header.subarray(0, 100));
  // GNU's own form has times where POSIX has the prefix; its magic ends with a space.
  return prefix === '' || header[262] === 0x20 ? name : `${prefix}/${name}`;
}

function requireChecksum(header: Uint8Array): void {
  let sum = 0;
  for (let i = 0; i < BLOCK; i++) sum += i >= 148 && i < 156 ? 0x20 : header[i]!;
  if (numberAt(header, 148, 8) !== sum) throw invalid('is no tar archive: a header has another checksum');
}

/** Octal digits, or GNU's binary form for what these cannot hold. */
function numberAt(header: Uint8Array, start: number, length = 12): number {
  const field = header.subarray(start, start + length);
  if (field[0]! === 0x80) {
    const value = field.subarray(1).reduce((total, byte) => total * 256 + byte, 0);
    if (!Number.isSafeInteger(value)) throw invalid('has a member of an impossible size');
    return value;
  }
  const digits = textOf(field).trim();
  if (!/^[0-7]+$/.test(digits)) throw invalid('has a header with a number that is none');
  return Number.parseInt(digits, 8);
}

/** `path` and `size` of a pax header: records `LENGTH KEY=VALUE\n`. */
function paxFields(bytes: Uint8Array): { path?: string; size?: number } {
  const fields: { path?: string; size?: number } = {};
  for (let at = 0; at < bytes.length; ) {
    const space = bytes.indexOf(0x20, at);
    const length = Number(textOf(bytes.subarray(at, space)));
    if (space < 0 || !Number.isInteger(length) || length <= space - at || at + length > bytes.length)
      throw invalid('has an extended header that cannot be read');
    const record = textOf(bytes.subarray(space + 1, at + length - 1));
    const [key, value] = [record.slice(0, record.indexOf('=')), record.slice(record.indexOf('=') + 1)];
    if (key === 'path') fields.path = value;
    if (key === 'size') {
      if (!/^\d{1,15}$/.test(value)) throw invalid('has an extended header with a size that is none');
      fields.size = Number(value);
    }
    at += length;
  }
  return fields;
}

function textOf(bytes: Uint8Array): string {
  const end = bytes.indexOf(0);
  return new TextDecoder().decode(end < 0 ? bytes : bytes.subarray(0, end));
}

function invalid(what: string): AppError {
  return new AppError('image-archive-invalid', `The archive ${what}`);
}
