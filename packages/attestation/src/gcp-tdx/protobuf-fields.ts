import { ByteReader } from '@dstack-cloud/encoding';
import { decoding } from '../decoding.ts';
import { AttestationError } from '../errors.ts';

const MAX_FIELDS = 4096;

/** Length-delimited fields of a protobuf message, by number, in order; other kinds are skipped. */
export type BytesFields = ReadonlyMap<number, readonly Uint8Array[]>;

/**
 * Reads one level of a protobuf message: enough for Google's endorsements, whose messages are all bytes and
 * small numbers (Protocol Buffers encoding, wire types 0, 1, 2 and 5).
 * @throws AttestationError `malformed`, `too-large`
 */
export function protobufBytes(message: Uint8Array): BytesFields {
  return decoding('Protobuf message', () => {
    const fields = new Map<number, Uint8Array[]>();
    const reader = new ByteReader(message);
    for (let count = 0; reader.remaining > 0; count++) {
      if (count >= MAX_FIELDS)
        throw new AttestationError('too-large', 'Protobuf message with too many fields');
      const key = varint(reader);
      const value = fieldValue(reader, Number(key & 7n));
      if (!value) continue;
      const number = Number(key >> 3n);
      const known = fields.get(number);
      if (known) known.push(value);
      else fields.set(number, [value]);
    }
    return fields;
  });
}

/** The last value of a field, as protobuf decides between repeated ones. */
export function lastField(fields: BytesFields, number: number): Uint8Array | undefined {
  return fields.get(number)?.at(-1);
}

function fieldValue(reader: ByteReader, wireType: number): Uint8Array | undefined {
  if (wireType === 2) return reader.take(Number(varint(reader)));
  if (wireType === 0) varint(reader);
  else if (wireType === 1) reader.take(8);
  else if (wireType === 5) reader.take(4);
  else throw new AttestationError('malformed', `Protobuf message with wire type ${wireType}`);
  return undefined;
}

function varint(reader: ByteReader): bigint {
  let value = 0n;
  for (let shift = 0n; shift < 70n; shift += 7n) {
    const byte = reader.u8();
    value |= BigInt(byte & 0x7f) << shift;
    if (byte < 0x80) return value;
  }
  throw new AttestationError('malformed', 'Protobuf number of more than 10 bytes');
}
