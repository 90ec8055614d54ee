import { type ByteSource, CHUNK } from '../byte-source.ts';
import { EifError } from '../errors.ts';
import { type ByteName, shown } from './root-tree.ts';

const BLOCK = 512;
/** Headers are read in windows of this size, bytes. */
const WINDOW = 128 * 1024;
/** Most of an extended header or a long name. */
const MAX_EXTENSION = 1 << 20;

type TarKind = 'file' | 'link' | 'symlink' | 'character-device' | 'block-device' | 'directory' | 'fifo';

/** A member of a tar archive, and where its content lies. */
export interface TarMember {
  readonly kind: TarKind;
  readonly name: ByteName;
  readonly linkName: ByteName;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly major: number;
  readonly minor: number;
  readonly size: number;
  readonly offset: number;
  /** Names of extended attributes, which a ramdisk has no place for. */
  readonly attributes: readonly string[];
}

const KINDS: Readonly<Record<string, TarKind>> = {
  '0': 'file',
  '\0': 'file',
  '7': 'file',
  '1': 'link',
  '2': 'symlink',
  '3': 'character-device',
  '4': 'block-device',
  '5': 'directory',
  '6': 'fifo',
};

/**
 * The members of an archive (POSIX.1 pax with ustar, and GNU's long names) without their contents, which stay where they are:
 * an image is read in the order of its names, not of its archives, and is never copied. tar-stream reads archives from front
 * to back and says no places.
 *
 * @throws EifError `bad-image`
 */
export async function* walkTar(source: ByteSource): AsyncGenerator<TarMember> {
  const window = new Window(source);
  let extended: Extended = { attributes: [] };
  for (let at = 0; at + BLOCK <= source.size; ) {
    const header = await window.read(at, BLOCK);
    if (header.every((byte) => byte === 0)) return;
    requireChecksum(header, source.name);
    const type = String.fromCharCode(header[156]!);
    const offset = at + BLOCK;
    const size = extended.size ?? number(header, 124, 12, source.name);
    if (offset + size > source.size)
      bad(`${source.name} ends inside ${shown(text(header, 0, 100))}: it was cut short`);
    at = offset + Math.ceil(size / BLOCK) * BLOCK;
    if ('xgLK'.includes(type)) {
      if (size > MAX_EXTENSION) bad(`${source.name} has an extended header of ${size} bytes`);
      const bytes = await window.read(offset, size);
      if (type === 'x') extended = { ...extended, ...readPax(bytes, source.name) };
      if (type === 'g') requireHarmless(readPax(bytes, source.name), source.name);
      if (type === 'L') extended = { ...extended, name: upToNul(bytes) };
      if (type === 'K') extended = { ...extended, linkName: upToNul(bytes) };
      continue;
    }
    const name = extended.name ?? ustarName(header);
    const kind = KINDS[type];
    if (type === 'S' || extended.isSparse === true)
      throw new EifError('bad-image', `${shown(name)} is stored as a sparse file, in a form of GNU tar`, {
        hint: 'Pack the archive without --sparse',
      });
    if (kind === undefined)
      bad(`${shown(name)} is a member of type ${JSON.stringify(type)}, which images do not have`);
    yield {
      kind,
      // An old form marks folders by a slash alone.
      ...(kind === 'file' && name.endsWith('/') ? { kind: 'directory' } : {}),
      name,
      linkName: extended.linkName ?? text(header, 157, 100),
      mode: number(header, 100, 8, source.name) & 0o7777,
      uid: extended.uid ?? number(header, 108, 8, source.name),
      gid: extended.gid ?? number(header, 116, 8, source.name),
      major: number(header, 329, 8, source.name),
      minor: number(header, 337, 8, source.name),
      size: kind === 'file' ? size : 0,
      offset,
      attributes: extended.attributes,
    };
    extended = { attributes: [] };
  }
}

interface Extended {
  readonly name?: ByteName;
  readonly linkName?: ByteName;
  readonly size?: number;
  readonly uid?: number;
  readonly gid?: number;
  readonly isSparse?: true;
  readonly attributes: readonly string[];
}

/** Records `LENGTH NAME=VALUE LF`; the length counts itself. */
function readPax(bytes: Uint8Array, archive: string): Extended {
  const all = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('latin1');
  const found: { -readonly [K in keyof Extended]: Extended[K] } & { attributes: string[] } = {
    attributes: [],
  };
  for (let at = 0; at < all.length; ) {
    const length = Number(/^(\d{1,7}) /.exec(all.slice(at, at + 8))?.[1]);
    const record = all.slice(at, at + length);
    const equals = record.indexOf('=');
    if (!(length > 4) || record.length !== length || !record.endsWith('\n') || equals < 0)
      bad(`${archive} has an extended header that cannot be read`);
    const key = record.slice(record.indexOf(' ') + 1, equals);
    const value = record.slice(equals + 1, -1);
    if (key === 'path') found.name = value;
    if (key === 'linkpath') found.linkName = value;
    if (key === 'size' || key === 'uid' || key === 'gid') found[key] = decimal(value, archive);
    if (key.startsWith('GNU.sparse.')) found.isSparse = true;
    if (key.startsWith('SCHILY.xattr.')) found.attributes.push(key.slice('SCHILY.xattr.'.length));
    at += length;
  }
  return found;
}

function requireHarmless({ attributes, ...rest }: Extended, archive: string): void {
  if (Object.keys(rest).length > 0 || attributes.length > 0)
    bad(`${archive} has a global header that changes members, which images do not have`);
}

function ustarName(header: Uint8Array): ByteName {
  const isUstar = text(header, 257, 5) === 'ustar';
  // GNU tar has other things in the place of the prefix: its magic ends in two blanks.
  const prefix = isUstar && header[262] === 0 ? text(header, 345, 155) : '';
  return prefix === '' ? text(header, 0, 100) : `${prefix}/${text(header, 0, 100)}`;
}

function requireChecksum(header: Uint8Array, archive: string): void {
  let sum = 0;
  for (let i = 0; i < BLOCK; i++) sum += i >= 148 && i < 156 ? 0x20 : header[i]!;
  const written = text(header, 148, 8).trim();
  if (!/^[0-7]+$/.test(written) || Number.parseInt(written, 8) !== sum)
    bad(`${archive} is no tar archive, or is damaged`);
}

function number(header: Uint8Array, offset: number, length: number, archive: string): number {
  const first = header[offset]!;
  if ((first & 0x80) === 0) {
    const digits = text(header, offset, length).trim();
    if (!/^[0-7]*$/.test(digits)) bad(`${archive} has a header that cannot be read`);
    return digits === '' ? 0 : Number.parseInt(digits, 8);
  }
  // Base 256, big-endian; the first bit only marks it.
  let value = first & 0x7f;
  for (let i = 1; i < length; i++) value = value * 256 + header[offset + i]!;
  if (!Number.isSafeInteger(value)) bad(`${archive} has a header with a number that is too large`);
  return value;
}

function decimal(digits: string, archive: string): number {
  const value = /^\d{1,16}$/.test(digits) ? Number(digits) : Number.NaN;
  if (!Number.isSafeInteger(value)) bad(`${archive} has an extended header with a bad number`);
  return value;
}

function text(header: Uint8Array, offset: number, length: number): ByteName {
  return upToNul(header.subarray(offset, offset + length));
}

function upToNul(bytes: Uint8Array): ByteName {
  const end = bytes.indexOf(0);
  const part = end < 0 ? bytes : bytes.subarray(0, end);
  return Buffer.from(part.buffer, part.byteOffset, part.length).toString('latin1');
}

/** Small reads near each other from one large one. */
class Window {
  readonly #source: ByteSource;
  #at = 0;
  #bytes: Uint8Array = new Uint8Array(0);

  constructor(source: ByteSource) {
    this.#source = source;
  }

  async read(offset: number, length: number): Promise<Uint8Array> {
    const isInside = offset >= this.#at && offset + length <= this.#at + this.#bytes.length;
    if (!isInside) {
      const size = Math.min(Math.max(WINDOW, length), this.#source.size - offset, Math.max(CHUNK, length));
      this.#bytes = await this.#source.read(offset, size);
      this.#at = offset;
    }
    return this.#bytes.subarray(offset - this.#at, offset - this.#at + length);
  }
}

function bad(message: string): never {
  throw new EifError('bad-image', message);
}
