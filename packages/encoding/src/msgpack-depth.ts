import { ByteReader } from './byte-reader.ts';
import { EncodingError } from './errors.ts';

/** Bytes that follow the types of fixed size: float, unsigned and signed integers (ca to d3). */
const FIXED_SIZES = [4, 8, 1, 2, 4, 8, 1, 2, 4, 8] as const;

/**
 * Walks over one MessagePack value without building it, so that a few bytes a level cannot cost memory by the
 * gigabyte: the decoder keeps an object for every level that is open.
 * @throws EncodingError `too-large` when maps and arrays are nested deeper than `maxDepth`; other faults are
 * left to the decoder
 */
export function checkMsgpackDepth(bytes: Uint8Array, maxDepth: number): void {
  const reader = new ByteReader(bytes);
  /** Values that each open map or array still waits for. */
  const open: number[] = [];
  do {
    const children = skipValue(reader);
    if (children === undefined) return;
    if (children > 0) {
      if (open.length >= maxDepth) {
        throw new EncodingError('too-large', `MessagePack is nested deeper than ${maxDepth}`);
      }
      open.push(children);
      continue;
    }
    while (open.length > 0) {
      const left = open.pop()! - 1;
      if (left === 0) continue;
      open.push(left);
      break;
    }
  } while (open.length > 0);
}

/** Reads over a header and its own bytes: the number of values inside, or undefined where the decoder will fail. */
function skipValue(reader: ByteReader): number | undefined {
  if (reader.remaining === 0) return undefined;
  const type = reader.u8();
  if (type <= 0x7f || type >= 0xe0) return 0;
  if (type <= 0x8f) return 2 * (type & 0x0f);
  if (type <= 0x9f) return type & 0x0f;
  if (type <= 0xbf) return skip(reader, type & 0x1f);
  if (type === 0xc0 || type === 0xc2 || type === 0xc3) return 0;
  if (type >= 0xca && type <= 0xd3) return skip(reader, FIXED_SIZES[type - 0xca]!);
  if (type >= 0xc4 && type <= 0xc6) return skipSized(reader, type - 0xc4);
  if (type >= 0xd9 && type <= 0xdb) return skipSized(reader, type - 0xd9);
  if (type === 0xdc || type === 0xdd) return length(reader, type - 0xdc + 1);
  if (type === 0xde || type === 0xdf) {
    const pairs = length(reader, type - 0xde + 1);
    return pairs === undefined ? undefined : 2 * pairs;
  }
  // c1 and extension types: refused by the decoder.
  return undefined;
}

/** A length of 1, 2 or 4 bytes. */
function length(reader: ByteReader, width: number): number | undefined {
  if (reader.remaining < 2 ** width) return undefined;
  if (width === 0) return reader.u8();
  return width === 1 ? reader.u16be() : reader.u32be();
}

function skipSized(reader: ByteReader, width: number): 0 | undefined {
  const size = length(reader, width);
  return size === undefined ? undefined : skip(reader, size);
}

function skip(reader: ByteReader, size: number): 0 | undefined {
  if (reader.remaining < size) return undefined;
  reader.take(size);
  return 0;
}
