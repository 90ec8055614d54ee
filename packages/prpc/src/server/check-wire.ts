import { type DescField, type DescMessage, ScalarType } from '@bufbuild/protobuf';
import { PrpcError } from '../errors.ts';

/** Nesting of messages and groups; deeper than anything of ours. */
const MAX_DEPTH = 100;

/** Fields in one message, nested ones included. Ours have far fewer. */
export const MAX_WIRE_FIELDS = 4_096;

const WIRE_TYPES = [
  'Varint',
  'SixtyFourBit',
  'LengthDelimited',
  'StartGroup',
  'EndGroup',
  'ThirtyTwoBit',
] as const;
const VARINT = 0;
const SIXTY_FOUR_BIT = 1;
const LENGTH_DELIMITED = 2;
const START_GROUP = 3;
const END_GROUP = 4;
const THIRTY_TWO_BIT = 5;

const utf8 = new TextDecoder('utf-8', { fatal: true });

/**
 * Checks a protobuf message as strictly as the original's library: field types must be those of the schema, strings
 * must be UTF-8, lengths must fit. The runtime skips what does not fit, which would turn it into defaults.
 * @throws PrpcError `bad_protobuf` with the original's texts
 */
export function checkWire(desc: DescMessage, bytes: Uint8Array): void {
  new WireReader(bytes).message(desc, bytes.length, 0);
}

class WireReader {
  readonly #bytes: Uint8Array;
  #offset = 0;
  #fields = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  message(desc: DescMessage, end: number, depth: number): void {
    if (depth > MAX_DEPTH) throw failure('recursion limit reached');
    while (this.#offset < end) {
      const { number, wireType } = this.#tag(end);
      const field = desc.fields.find((candidate) => candidate.number === number);
      if (field === undefined) this.#skip(wireType, number, end, depth);
      else this.#within(desc, field, () => this.#field(field, wireType, end, depth));
    }
  }

  #field(field: DescField, wireType: number, end: number, depth: number): void {
    const scalar = field.fieldKind === 'list' ? listScalar(field) : field.scalar;
    const delimited = scalar === undefined || scalar === ScalarType.STRING || scalar === ScalarType.BYTES;
    const expected = delimited ? LENGTH_DELIMITED : VARINT;
    if (wireType !== expected) {
      throw failure(`invalid wire type: ${WIRE_TYPES[wireType]} (expected ${WIRE_TYPES[expected]})`);
    }
    if (!delimited) {
      this.#varint(end);
      return;
    }
    const contentEnd = this.#length(end);
    if (field.message !== undefined) {
      this.message(field.message, contentEnd, depth + 1);
    } else if (scalar === ScalarType.STRING) {
      checkUtf8(this.#bytes.subarray(this.#offset, contentEnd));
    }
    this.#offset = contentEnd;
  }

  #within(desc: DescMessage, field: DescField, read: () => void): void {
    try {
      read();
    } catch (error) {
      if (!(error instanceof WireFailure)) throw error;
      throw failure(`${error.reason}`, `${desc.name}.${field.name}: ${error.path}`);
    }
  }

  #tag(end: number): { number: number; wireType: number } {
    this.#fields += 1;
    if (this.#fields > MAX_WIRE_FIELDS) throw failure('too many fields');
    const tag = this.#varint(end);
    if (tag > 0xffff_ffffn) throw failure(`invalid key value: ${tag}`);
    const wireType = Number(tag & 7n);
    const number = Number(tag >> 3n);
    if (wireType > THIRTY_TWO_BIT) throw failure(`invalid wire type value: ${wireType}`);
    if (number === 0) throw failure('invalid tag value: 0');
    return { number, wireType };
  }

  #skip(wireType: number, number: number, end: number, depth: number): void {
    if (depth > MAX_DEPTH) throw failure('recursion limit reached');
    if (wireType === VARINT) this.#varint(end);
    else if (wireType === LENGTH_DELIMITED) this.#offset = this.#length(end);
    else if (wireType === SIXTY_FOUR_BIT) this.#advance(8, end);
    else if (wireType === THIRTY_TWO_BIT) this.#advance(4, end);
    else if (wireType === END_GROUP) throw failure('unexpected end group tag');
    else this.#skipGroup(number, end, depth + 1);
  }

  #skipGroup(number: number, end: number, depth: number): void {
    for (;;) {
      if (this.#offset >= end) throw failure('buffer underflow');
      const inner = this.#tag(end);
      if (inner.wireType === END_GROUP) {
        if (inner.number !== number) throw failure('unexpected end group tag');
        return;
      }
      this.#skip(inner.wireType, inner.number, end, inner.wireType === START_GROUP ? depth + 1 : depth);
    }
  }

  #length(end: number): number {
    const length = this.#varint(end);
    if (length > BigInt(end - this.#offset)) throw failure('buffer underflow');
    return this.#offset + Number(length);
  }

  #advance(count: number, end: number): void {
    if (count > end - this.#offset) throw failure('buffer underflow');
    this.#offset += count;
  }

  /** At most 10 bytes, the last of them 0 or 1 (protobuf encoding guide, "base 128 varints"). */
  #varint(end: number): bigint {
    let value = 0n;
    for (let count = 0; count < 10; count++) {
      const byte = this.#offset < end ? this.#bytes[this.#offset++] : undefined;
      if (byte === undefined || (count === 9 && byte > 1)) throw failure('invalid varint');
      value |= BigInt(byte & 0x7f) << BigInt(7 * count);
      if (byte < 0x80) return value;
    }
    throw failure('invalid varint');
  }
}

/** The failure, with the fields that it was found in, outermost first. */
class WireFailure extends PrpcError {
  readonly reason: string;
  readonly path: string;

  constructor(reason: string, path: string) {
    super('bad_protobuf', `failed to decode Protobuf message: ${path}${reason}`);
    this.reason = reason;
    this.path = path;
  }
}

function failure(reason: string, path = ''): WireFailure {
  return new WireFailure(reason, path);
}

function checkUtf8(bytes: Uint8Array): void {
  try {
    utf8.decode(bytes);
  } catch {
    throw failure('invalid string value: data is not UTF-8 encoded');
  }
}

function listScalar(field: DescField & { fieldKind: 'list' }): ScalarType | undefined {
  return field.listKind === 'scalar' ? field.scalar : undefined;
}
