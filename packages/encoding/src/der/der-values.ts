import { utf8Text } from '../bytes.ts';
import { EncodingError } from '../errors.ts';
import { toHex } from '../hex.ts';
import type { DerElement } from './der-reader.ts';
import { derTag } from './der-tag.ts';

const MAX_INTEGER_BYTES = 1024;
const MAX_OID_BYTES = 64;

// T61String is read as Latin-1, as everybody does (RFC 5280 section 4.1.2.4 forbids new ones).
const latin1 = new TextDecoder('latin1');

/** The value of an INTEGER. @throws EncodingError unless minimal, X.690 section 8.3.2 */
export function derInteger(element: DerElement): bigint {
  expectTag(element, derTag.integer);
  const { contents } = element;
  const [first, second] = contents;
  if (first === undefined) throw new EncodingError('invalid-value', 'DER INTEGER is empty');
  if (contents.length > MAX_INTEGER_BYTES) throw new EncodingError('too-large', 'DER INTEGER is too long');
  if (second !== undefined && ((first === 0 && second < 0x80) || (first === 0xff && second >= 0x80))) {
    throw new EncodingError('not-canonical', 'DER INTEGER is not minimal');
  }
  const value =
    contents.length <= 6
      ? BigInt(contents.reduce((number, byte) => number * 256 + byte, 0))
      : BigInt(`0x${toHex(contents)}`);
  return first >= 0x80 ? value - (1n << BigInt(8 * contents.length)) : value;
}

/** The dotted form of an OBJECT IDENTIFIER. @throws EncodingError unless canonical, X.690 section 8.19 */
export function derOid(element: DerElement): string {
  expectTag(element, derTag.oid);
  const { contents } = element;
  if (contents.length === 0 || contents.length > MAX_OID_BYTES || contents.at(-1)! >= 0x80) {
    throw new EncodingError('invalid-value', 'DER OBJECT IDENTIFIER has a bad length');
  }
  let text = '';
  let arc = 0;
  let fresh = true;
  for (const byte of contents) {
    if (fresh && byte === 0x80) {
      throw new EncodingError('not-canonical', 'DER OBJECT IDENTIFIER is not minimal');
    }
    if (arc >= MAX_SAFE_ARC) return largeOid(contents);
    arc = arc * 128 + (byte & 0x7f);
    fresh = byte < 0x80;
    if (!fresh) continue;
    text = text === '' ? firstArcs(arc) : `${text}.${arc}`;
    arc = 0;
  }
  return text;
}

/** Beyond it, seven more bits do not fit in a number. */
const MAX_SAFE_ARC = 2 ** 46;

/** X.690 section 8.19.4: the first two arcs are one number. */
function firstArcs(arc: number): string {
  const root = arc < 40 ? 0 : arc < 80 ? 1 : 2;
  return `${root}.${arc - root * 40}`;
}

/** The same for arcs of any length, such as those of UUIDs. */
function largeOid(contents: Uint8Array): string {
  const arcs: bigint[] = [];
  let arc = 0n;
  for (const byte of contents) {
    arc = (arc << 7n) | BigInt(byte & 0x7f);
    if (byte >= 0x80) continue;
    arcs.push(arc);
    arc = 0n;
  }
  const first = arcs[0]!;
  const root = first < 40n ? 0n : first < 80n ? 1n : 2n;
  return [root, first - root * 40n, ...arcs.slice(1)].join('.');
}

/** The bits of a BIT STRING; unused bits are zero. @throws EncodingError otherwise, X.690 section 11.2 */
export function derBitString(element: DerElement): { bytes: Uint8Array; unusedBits: number } {
  expectTag(element, derTag.bitString);
  const unusedBits = element.contents[0];
  const bytes = element.contents.subarray(1);
  if (unusedBits === undefined || unusedBits > 7 || (unusedBits > 0 && bytes.length === 0)) {
    throw new EncodingError('invalid-value', 'DER BIT STRING has a bad number of unused bits');
  }
  if (unusedBits > 0 && (bytes.at(-1)! & ((1 << unusedBits) - 1)) !== 0) {
    throw new EncodingError('not-canonical', 'DER BIT STRING has unused bits set');
  }
  return { bytes, unusedBits };
}

/** The contents of an OCTET STRING. */
export function derOctetString(element: DerElement): Uint8Array {
  expectTag(element, derTag.octetString);
  return element.contents;
}

/** The value of a BOOLEAN; DER allows 00 and ff only (X.690 section 11.1). */
export function derBoolean(element: DerElement): boolean {
  expectTag(element, derTag.boolean);
  const [value, ...more] = element.contents;
  if (more.length > 0 || (value !== 0 && value !== 0xff)) {
    throw new EncodingError('not-canonical', 'DER BOOLEAN is neither 00 nor ff');
  }
  return value === 0xff;
}

/** The text of a UTF8String, PrintableString, IA5String, NumericString, VisibleString, T61String or BMPString. */
export function derText(element: DerElement): string {
  const { tag, contents } = element;
  if (tag === derTag.utf8String) return utf8Text(contents);
  if (tag === derTag.bmpString) return bmpText(contents);
  if (tag === derTag.t61String) return latin1.decode(contents);
  if (!ASCII_STRINGS.has(tag))
    throw new EncodingError('unexpected-tag', `DER tag 0x${tag.toString(16)} is no text`);
  if (contents.some((byte) => byte >= 0x80))
    throw new EncodingError('invalid-value', 'DER text is not ASCII');
  return utf8Text(contents);
}

const ASCII_STRINGS: ReadonlySet<number> = new Set([
  derTag.printableString,
  derTag.ia5String,
  derTag.numericString,
  derTag.visibleString,
]);

function bmpText(contents: Uint8Array): string {
  if (contents.length % 2 !== 0) throw new EncodingError('invalid-value', 'DER BMPString has an odd length');
  let text = '';
  for (let i = 0; i < contents.length; i += 2)
    text += String.fromCharCode(contents[i]! * 256 + contents[i + 1]!);
  return text;
}

function expectTag(element: DerElement, tag: number): void {
  if (element.tag !== tag) {
    const found = element.tag.toString(16).padStart(2, '0');
    throw new EncodingError(
      'unexpected-tag',
      `Expected DER tag 0x${tag.toString(16).padStart(2, '0')}, found 0x${found}`,
    );
  }
}
