import { concatBytes } from '@dstack-cloud/encoding';
import { PolicyError } from '../../errors.ts';

/** One item of RLP (Ethereum yellow paper, appendix B) inside larger bytes. */
export type RlpItem = {
  readonly isList: boolean;
  /** The string, or the encodings of the list's items one after the other. */
  readonly payload: Uint8Array;
  /** The item with its prefix. */
  readonly raw: Uint8Array;
};

/** Lengths from here on have a length of their own. */
const LONG = 56;

/**
 * Read the one item that the bytes are. Each item has exactly one encoding; any other is refused.
 * @throws PolicyError `chain-proof`
 */
export function readRlp(bytes: Uint8Array): RlpItem {
  const item = itemAt(bytes, 0);
  if (item.raw.length !== bytes.length) throw badRlp('bytes are left over');
  return item;
}

/**
 * The items of a list, in order.
 * @throws PolicyError `chain-proof` when it is no list, has more than `most` items, or one is not canonical
 */
export function rlpItems({ isList, payload }: RlpItem, most: number): RlpItem[] {
  if (!isList) throw badRlp('a list was expected');
  const items: RlpItem[] = [];
  for (let at = 0; at < payload.length; ) {
    if (items.length === most) throw badRlp(`a list has more than ${most} items`);
    const item = itemAt(payload, at);
    items.push(item);
    at += item.raw.length;
  }
  return items;
}

/** @throws PolicyError `chain-proof` when it is a list, or not `length` bytes long */
export function rlpText({ isList, payload }: RlpItem, length?: number): Uint8Array {
  if (isList) throw badRlp('a string was expected');
  if (length !== undefined && payload.length !== length) throw badRlp(`${length} bytes were expected`);
  return payload;
}

/** @throws PolicyError `chain-proof` for more than 32 bytes, or a leading zero */
export function rlpInteger(item: RlpItem): bigint {
  const bytes = rlpText(item);
  if (bytes.length > 32) throw badRlp('an integer is longer than 32 bytes');
  if (bytes[0] === 0) throw badRlp('an integer has a leading zero');
  return bytes.reduce((value, byte) => (value << 8n) | BigInt(byte), 0n);
}

function itemAt(bytes: Uint8Array, at: number): RlpItem {
  const first = bytes[at];
  if (first === undefined) throw badRlp('an item is missing');
  if (first < 0x80) return slice(bytes, at, 0, 1, false);
  const isList = first >= 0xc0;
  const short = first - (isList ? 0xc0 : 0x80);
  if (short < LONG) {
    const item = slice(bytes, at, 1, short, isList);
    if (!isList && short === 1 && item.payload[0]! < 0x80) throw badRlp('a single byte has a prefix');
    return item;
  }
  const lengthBytes = short - LONG + 1;
  // Nothing here is longer than a block header with its bloom filter and a node's worth of extra data.
  if (lengthBytes > 2) throw badRlp('an item is too long');
  const high = bytes[at + 1];
  const low = bytes[at + lengthBytes];
  if (high === undefined || low === undefined) throw badRlp('a length is cut off');
  if (high === 0) throw badRlp('a length has a leading zero');
  const length = lengthBytes === 1 ? high : high * 256 + low;
  if (length < LONG) throw badRlp('a short item has a long prefix');
  return slice(bytes, at, 1 + lengthBytes, length, isList);
}

function slice(bytes: Uint8Array, at: number, prefix: number, length: number, isList: boolean): RlpItem {
  const end = at + prefix + length;
  if (end > bytes.length) throw badRlp('an item is cut off');
  return { isList, payload: bytes.subarray(at + prefix, end), raw: bytes.subarray(at, end) };
}

/** Encode a string. */
export function encodeRlpText(bytes: Uint8Array): Uint8Array {
  if (bytes.length === 1 && bytes[0]! < 0x80) return bytes;
  return concatBytes(prefixOf(bytes.length, 0x80), bytes);
}

/** Encode a list of items that are encoded already. */
export function encodeRlpList(items: readonly Uint8Array[]): Uint8Array {
  const payload = concatBytes(...items);
  return concatBytes(prefixOf(payload.length, 0xc0), payload);
}

function prefixOf(length: number, base: number): Uint8Array {
  if (length < LONG) return Uint8Array.of(base + length);
  return length < 256
    ? Uint8Array.of(base + LONG, length)
    : Uint8Array.of(base + LONG + 1, length >> 8, length & 0xff);
}

function badRlp(what: string): PolicyError {
  return new PolicyError('chain-proof', `Proof is not RLP as it should be: ${what}`);
}
