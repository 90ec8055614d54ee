import { ByteReader } from './byte-reader.ts';
import { EncodingError } from './errors.ts';

/** Bytes that follow the types of fixed size: float, unsigned and signed integers (ca to d3). */
const FIXED_SIZES = [4, 8, 1, 2, 4, 8, 1, 2, 4, 8] as const;

/**
 * Values in one text, keys included. The largest evidence has some ten thousand; nine megabytes of empty maps take the
 * decoder four seconds.
 */
const MAX_VALUES = 262_144;

/** A map or array that still waits for values. */
interface Open {
  left: number;
  /** Keys so far; only maps have them. */
  readonly keys: Set<string> | undefined;
}

/**
 * Walks over one MessagePack value without building it. The decoder keeps an object for every open level, so
 * that a few bytes a level would cost memory by the gigabyte; and of equal keys it keeps the last in silence.
 * @throws EncodingError `too-large` when maps and arrays are nested deeper than `maxDepth` or there are more than
 * 262,144 values, `not-canonical` when a map has a key twice; other faults are left to the decoder
 */
export function checkMsgpackShape(bytes: Uint8Array, maxDepth: number): void {
  const reader = new ByteReader(bytes);
  const open: Open[] = [];
  let values = 0;
  do {
    values += 1;
    if (values > MAX_VALUES) throw new EncodingError('too-large', 'MessagePack has too many values');
    const start = reader.offset;
    const children = skipValue(reader);
    if (children === undefined) return;
    noteKey(open.at(-1), bytes.subarray(start, reader.offset));
    if (children > 0) {
      if (open.length >= maxDepth) {
        throw new EncodingError('too-large', `MessagePack is nested deeper than ${maxDepth}`);
      }
      open.push({ left: children, keys: isMap(bytes[start]!) ? new Set() : undefined });
      continue;
    }
    while (open.length > 0 && --open.at(-1)!.left === 0) open.pop();
  } while (open.length > 0);
}

/** Keys stand where an even number of a map's values is left. Equal keys have equal bytes in the shortest form. */
function noteKey(map: Open | undefined, key: Uint8Array): void {
  if (!map?.keys || map.left % 2 !== 0) return;
  const text = String.fromCharCode(...textOf(key.subarray(0, MAX_KEY)));
  if (map.keys.has(text)) throw new EncodingError('not-canonical', 'MessagePack map with a key twice');
  map.keys.add(text);
}

const MAX_KEY = 1024;

/** A key without its header, so that a longer header makes no other key of it. */
function textOf(key: Uint8Array): Uint8Array {
  const type = key[0]!;
  if (type >= 0xd9 && type <= 0xdb) return key.subarray(1 + 2 ** (type - 0xd9));
  return type >= 0xa0 && type <= 0xbf ? key.subarray(1) : key;
}

function isMap(type: number): boolean {
  return (type >= 0x80 && type <= 0x8f) || type === 0xde || type === 0xdf;
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
