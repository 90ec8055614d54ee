import { createHmac, timingSafeEqual } from 'node:crypto';
import type { CaaRecord } from '../caa.ts';

const CLASS_IN = 1;
/** RFC 2136 section 2.5.4: of this one record alone. */
const CLASS_NONE = 254;
const CLASS_ANY = 255;
const TYPE = { soa: 6, txt: 16, tsig: 250, caa: 257 } as const;
const OPCODE_UPDATE = 5;
const FUDGE_SECONDS = 300;
const HEADER = 12;

/** Algorithms of RFC 8945 section 6 that are not broken. */
export const TSIG_ALGORITHMS = ['hmac-sha256', 'hmac-sha384', 'hmac-sha512'] as const;
type TsigAlgorithm = (typeof TSIG_ALGORITHMS)[number];

export type TsigKey = {
  readonly name: string;
  readonly algorithm: TsigAlgorithm;
  readonly secret: Uint8Array;
};

/** One change of a zone. */
export type RecordChange = {
  readonly name: string;
  readonly action: 'add' | 'remove';
  /** Seconds; of what is removed it does not count. */
  readonly ttl: number;
  readonly data: { readonly txt: string } | { readonly caa: CaaRecord };
};

/** A message that changes a zone (RFC 2136 section 2), signed (RFC 8945 section 4), and the MAC that its answer builds on. */
export function signedUpdate(
  zone: string,
  changes: readonly RecordChange[],
  key: TsigKey,
  { id, time }: { readonly id: number; readonly time: number },
): { readonly message: Buffer; readonly mac: Buffer } {
  const header = Buffer.alloc(HEADER);
  header.writeUInt16BE(id, 0);
  header.writeUInt16BE(OPCODE_UPDATE << 11, 2);
  header.writeUInt16BE(1, 4);
  header.writeUInt16BE(changes.length, 8);
  const question = Buffer.concat([nameBytes(zone), u16(TYPE.soa), u16(CLASS_IN)]);
  const unsigned = Buffer.concat([header, question, ...changes.map(recordBytes)]);
  const variables = tsigVariables(key, time);
  const mac = createHmac(hashOf(key.algorithm), key.secret).update(unsigned).update(variables).digest();
  const message = Buffer.concat([unsigned, tsigRecord(key, time, id, mac)]);
  message.writeUInt16BE(1, 10);
  return { message, mac };
}

/**
 * Reads the answer to an update.
 * @returns the response code, 0 for success; undefined when the answer is not to this message or its signature is not by
 * this key (RFC 8945 section 5.3)
 */
export function updateResult(
  answer: Buffer,
  { id, time }: { readonly id: number; readonly time: number },
  requestMac: Buffer,
  key: TsigKey,
): number | undefined {
  if (answer.length < HEADER || answer.readUInt16BE(0) !== id || (answer.readUInt8(2) & 0x80) === 0)
    return undefined;
  const code = answer.readUInt8(3) & 0x0f;
  const tsig = lastRecord(answer);
  // A server that does not know the key cannot sign its refusal.
  if (tsig === undefined) return code === 0 ? undefined : code;
  const signed = Buffer.from(answer.subarray(0, tsig.start));
  signed.writeUInt16BE(answer.readUInt16BE(10) - 1, 10);
  const mac = createHmac(hashOf(key.algorithm), key.secret)
    .update(u16(requestMac.length))
    .update(requestMac)
    .update(signed)
    .update(tsigVariables(key, tsig.time, tsig.error, tsig.other))
    .digest();
  if (tsig.mac.length !== mac.length || !timingSafeEqual(tsig.mac, mac)) return code === 0 ? undefined : code;
  if (Math.abs(tsig.time - time) > FUDGE_SECONDS) return code === 0 ? undefined : code;
  return code === 0 && tsig.error !== 0 ? tsig.error : code;
}

function recordBytes({ name, action, ttl, data }: RecordChange): Buffer {
  const isTxt = 'txt' in data;
  const contents = isTxt ? txtData(data.txt) : caaData(data.caa);
  const isAdded = action === 'add';
  return Buffer.concat([
    nameBytes(name),
    u16(isTxt ? TYPE.txt : TYPE.caa),
    u16(isAdded ? CLASS_IN : CLASS_NONE),
    u32(isAdded ? ttl : 0),
    u16(contents.length),
    contents,
  ]);
}

/** Character strings of at most 255 bytes (RFC 1035 section 3.3.14). */
function txtData(text: string): Buffer {
  const bytes = Buffer.from(text);
  const parts: Buffer[] = [];
  for (let start = 0; start < Math.max(1, bytes.length); start += 255) {
    const part = bytes.subarray(start, start + 255);
    parts.push(Buffer.from([part.length]), part);
  }
  return Buffer.concat(parts);
}

/** RFC 8659 section 4.1: flags, tag with its length, value to the end. */
export function caaData({ tag, value }: CaaRecord): Buffer {
  return Buffer.concat([Buffer.from([0, tag.length]), Buffer.from(tag), Buffer.from(value)]);
}

/** What is signed beside the message (RFC 8945 section 4.3.3). */
function tsigVariables(
  { name, algorithm }: TsigKey,
  time: number,
  error = 0,
  other: Buffer = Buffer.alloc(0),
): Buffer {
  return Buffer.concat([
    nameBytes(name),
    u16(CLASS_ANY),
    u32(0),
    nameBytes(algorithm),
    u48(time),
    u16(FUDGE_SECONDS),
    u16(error),
    u16(other.length),
    other,
  ]);
}

function tsigRecord(key: TsigKey, time: number, id: number, mac: Buffer): Buffer {
  const contents = Buffer.concat([
    nameBytes(key.algorithm),
    u48(time),
    u16(FUDGE_SECONDS),
    u16(mac.length),
    mac,
    u16(id),
    u16(0),
    u16(0),
  ]);
  return Buffer.concat([
    nameBytes(key.name),
    u16(TYPE.tsig),
    u16(CLASS_ANY),
    u32(0),
    u16(contents.length),
    contents,
  ]);
}

type Tsig = {
  readonly start: number;
  readonly time: number;
  readonly mac: Buffer;
  readonly error: number;
  readonly other: Buffer;
};

/** The TSIG record that ends a message; undefined when it has none or is malformed. */
function lastRecord(message: Buffer): Tsig | undefined {
  try {
    const counts = [4, 6, 8, 10].map((at) => message.readUInt16BE(at)) as [number, number, number, number];
    let offset = HEADER;
    for (let i = 0; i < counts[0]; i++) offset = skipName(message, offset) + 4;
    const records = counts[1] + counts[2] + counts[3];
    for (let i = 0; i < records; i++) {
      const start = offset;
      const fields = skipName(message, offset);
      const length = message.readUInt16BE(fields + 8);
      offset = fields + 10 + length;
      if (message.readUInt16BE(fields) !== TYPE.tsig || i !== records - 1) continue;
      return tsigOf(message, start, fields + 10);
    }
    return undefined;
  } catch (error) {
    if (error instanceof RangeError) return undefined;
    throw error;
  }
}

function tsigOf(message: Buffer, start: number, data: number): Tsig {
  const at = skipName(message, data);
  const size = message.readUInt16BE(at + 8);
  const rest = at + 10 + size;
  const otherSize = message.readUInt16BE(rest + 4);
  return {
    start,
    time: message.readUIntBE(at, 6),
    mac: message.subarray(at + 10, rest),
    error: message.readUInt16BE(rest + 2),
    other: message.subarray(rest + 6, rest + 6 + otherSize),
  };
}

function skipName(message: Buffer, start: number): number {
  let offset = start;
  for (;;) {
    const length = message.readUInt8(offset);
    if (length === 0) return offset + 1;
    if (length >= 0xc0) return offset + 2;
    offset += 1 + length;
  }
}

function nameBytes(name: string): Buffer {
  const labels = name.replace(/\.$/, '').split('.');
  const parts = labels.flatMap((label) => [Buffer.from([label.length]), Buffer.from(label.toLowerCase())]);
  return Buffer.concat([...parts, Buffer.from([0])]);
}

function hashOf(algorithm: TsigAlgorithm): string {
  return algorithm.slice('hmac-'.length);
}

function u16(value: number): Buffer {
  return Buffer.from([value >> 8, value & 255]);
}

function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

function u48(value: number): Buffer {
  const bytes = Buffer.alloc(6);
  bytes.writeUIntBE(value, 0, 6);
  return bytes;
}
