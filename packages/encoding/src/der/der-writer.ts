import { concatBytes, utf8 } from '../bytes.ts';
import { EncodingError } from '../errors.ts';
import { contextTag, derTag } from './der-tag.ts';
import { timeText } from './der-time.ts';

/** Writers of DER elements; each gives identifier, length and contents. */
export const der = {
  sequence: (...parts: Uint8Array[]): Uint8Array => raw(derTag.sequence, concatBytes(...parts)),
  /** A SET whose members the caller has put in DER order. */
  set: (...parts: Uint8Array[]): Uint8Array => raw(derTag.set, concatBytes(...parts)),
  /** An INTEGER; bytes are read as an unsigned big-endian number and made minimal. */
  integer: (value: bigint | number | Uint8Array): Uint8Array => integer(value),
  oid: (dotted: string): Uint8Array => oid(dotted),
  octetString: (bytes: Uint8Array): Uint8Array => raw(derTag.octetString, bytes),
  bitString: (bytes: Uint8Array, unusedBits = 0): Uint8Array =>
    raw(derTag.bitString, concatBytes(Uint8Array.of(unusedBits), bytes)),
  utf8String: (text: string): Uint8Array => raw(derTag.utf8String, utf8(text)),
  printableString: (text: string): Uint8Array => raw(derTag.printableString, ascii(text)),
  ia5String: (text: string): Uint8Array => raw(derTag.ia5String, ascii(text)),
  boolean: (value: boolean): Uint8Array => raw(derTag.boolean, Uint8Array.of(value ? 0xff : 0)),
  null: (): Uint8Array => raw(derTag.null, new Uint8Array()),
  /** UTCTime before 2050, GeneralizedTime from then on (RFC 5280 section 4.1.2.5). */
  time: (unixSeconds: number): Uint8Array => {
    const { tag, text } = timeText(unixSeconds);
    return raw(tag, ascii(text));
  },
  /** `[n] EXPLICIT` around a complete element. */
  explicit: (n: number, inner: Uint8Array): Uint8Array => raw(contextTag(n), inner),
  /** `[n] IMPLICIT` with the given contents. */
  implicit: (n: number, contents: Uint8Array, constructed = false): Uint8Array =>
    raw(contextTag(n, constructed), contents),
  raw: (tag: number, contents: Uint8Array): Uint8Array => raw(tag, contents),
} as const;

function raw(tag: number, contents: Uint8Array): Uint8Array {
  return concatBytes(Uint8Array.of(tag), lengthOctets(contents.length), contents);
}

function lengthOctets(length: number): Uint8Array {
  if (length < 0x80) return Uint8Array.of(length);
  const octets: number[] = [];
  for (let rest = length; rest > 0; rest = Math.floor(rest / 256)) octets.unshift(rest % 256);
  return Uint8Array.of(0x80 | octets.length, ...octets);
}

function integer(value: bigint | number | Uint8Array): Uint8Array {
  if (value instanceof Uint8Array) return raw(derTag.integer, unsignedContents(value));
  const number = BigInt(value);
  if (number < 0n) throw new EncodingError('invalid-value', 'Negative INTEGERs are not written');
  const hex = number.toString(16);
  const even = hex.length % 2 === 0 ? hex : `0${hex}`;
  return raw(
    derTag.integer,
    unsignedContents(Uint8Array.from(even.match(/../g)!, (pair) => Number.parseInt(pair, 16))),
  );
}

function unsignedContents(bytes: Uint8Array): Uint8Array {
  let start = 0;
  while (start < bytes.length - 1 && bytes[start] === 0) start++;
  const minimal = bytes.length === 0 ? Uint8Array.of(0) : bytes.subarray(start);
  return minimal[0]! >= 0x80 ? concatBytes(Uint8Array.of(0), minimal) : minimal;
}

function oid(dotted: string): Uint8Array {
  if (!/^[0-2](\.(0|[1-9]\d*))+$/.test(dotted))
    throw new EncodingError('invalid-value', `"${dotted}" is no OID`);
  const [root, second, ...rest] = dotted.split('.').map(BigInt) as [bigint, bigint, ...bigint[]];
  if (root < 2n && second >= 40n) throw new EncodingError('invalid-value', `"${dotted}" is no OID`);
  return raw(derTag.oid, concatBytes(...[root * 40n + second, ...rest].map(base128)));
}

function base128(arc: bigint): Uint8Array {
  const octets = [Number(arc & 0x7fn)];
  for (let rest = arc >> 7n; rest > 0n; rest >>= 7n) octets.unshift(Number(rest & 0x7fn) | 0x80);
  return Uint8Array.from(octets);
}

function ascii(text: string): Uint8Array {
  if (!/^[\x20-\x7e]*$/.test(text)) throw new EncodingError('invalid-value', 'Text is not printable ASCII');
  return utf8(text);
}
