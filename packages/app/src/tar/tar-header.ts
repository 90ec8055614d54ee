/** Size of a header, and what contents are padded to, bytes. */
export const TAR_BLOCK = 512;

/** Makes the error that a reader throws, from what is wrong with the archive: `has a damaged header`. */
export type Refuse = (what: string) => Error;

/** The header of one member (POSIX.1-2017 pax, "ustar Interchange Format", and GNU's variant of it). */
export interface TarHeader {
  /** One character; NUL is an old form of `0`. */
  readonly type: string;
  /** Bytes of the name as Latin-1: nothing says which encoding they have. */
  readonly name: string;
  readonly linkName: string;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly size: number;
  readonly major: number;
  readonly minor: number;
}

/** Reads a block of 512 bytes whose checksum is right. @throws what `refuse` makes */
export function parseTarHeader(block: Uint8Array, refuse: Refuse): TarHeader {
  requireChecksum(block, refuse);
  return {
    type: String.fromCharCode(block[156]!),
    name: nameOf(block),
    linkName: text(block, 157, 100),
    mode: numberAt(block, 100, 8, refuse),
    uid: numberAt(block, 108, 8, refuse),
    gid: numberAt(block, 116, 8, refuse),
    size: numberAt(block, 124, 12, refuse),
    major: numberAt(block, 329, 8, refuse),
    minor: numberAt(block, 337, 8, refuse),
  };
}

/** Bytes up to the first NUL, as Latin-1. */
export function upToNul(bytes: Uint8Array): string {
  const end = bytes.indexOf(0);
  const part = end < 0 ? bytes : bytes.subarray(0, end);
  return Buffer.from(part.buffer, part.byteOffset, part.length).toString('latin1');
}

/** Sum of the header's bytes, its own field counted as spaces. */
function requireChecksum(block: Uint8Array, refuse: Refuse): void {
  let sum = 0;
  for (let i = 0; i < TAR_BLOCK; i++) sum += i >= 148 && i < 156 ? 0x20 : block[i]!;
  const written = text(block, 148, 8).trim();
  if (!/^[0-7]+$/.test(written) || Number.parseInt(written, 8) !== sum)
    throw refuse('is no tar archive, or is damaged: a header has another checksum');
}

function nameOf(block: Uint8Array): string {
  // GNU's own form has times where POSIX has the prefix; its magic ends with blanks.
  const isUstar = text(block, 257, 5) === 'ustar' && block[262] === 0;
  const prefix = isUstar ? text(block, 345, 155) : '';
  return prefix === '' ? text(block, 0, 100) : `${prefix}/${text(block, 0, 100)}`;
}

/** Octal digits, or GNU's binary form for what these cannot hold. */
function numberAt(block: Uint8Array, at: number, length: number, refuse: Refuse): number {
  const first = block[at]!;
  if ((first & 0x80) === 0) {
    const digits = text(block, at, length).trim();
    if (!/^[0-7]*$/.test(digits)) throw refuse('has a header with a number that is none');
    return digits === '' ? 0 : Number.parseInt(digits, 8);
  }
  // Base 256, big-endian; the first bit only marks it.
  let value = first & 0x7f;
  for (let i = 1; i < length; i++) value = value * 256 + block[at + i]!;
  if (!Number.isSafeInteger(value)) throw refuse('has a member of an impossible size');
  return value;
}

function text(block: Uint8Array, at: number, length: number): string {
  return upToNul(block.subarray(at, at + length));
}
