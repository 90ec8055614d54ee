import { createHash } from 'node:crypto';
import { parseStrictJson } from '@dstack-cloud/app';
import { ByteReader, EncodingError, equalBytes, isZero, toHex, utf8Text } from '@dstack-cloud/encoding';
import type { KeyName } from '@dstack-cloud/ra-tls';
import { z } from 'zod';
import { GuestError } from '../../errors.ts';
import { parseDiskKeyName } from './disk-key-name.ts';

/**
 * Where the encrypted data starts, bytes: what lies before is the header. LUKS2 on-disk format specification 1.1.3.
 */
export const LUKS_DATA_OFFSET: number = 16 * 1024 * 1024;

const BINARY = 4096;
/** Size of a copy as cryptsetup makes it. */
const HEADER_SIZE = 16 * 1024;
const MIN_HEADER = 4096;
const MAX_HEADER = 16 * 1024 * 1024;
const MAGIC = { primary: 'LUKS\xba\xbe', secondary: 'SKUL\xba\xbe' } as const;
const CHECKSUM_AT = 448;
const LABEL_AT = 24;
/** Where a copy says at which place of the disk it lies. */
const OFFSET_AT = 256;
const LABEL_BYTES = 48;

const base64 = z
  .string()
  .regex(/^[A-Za-z0-9+/]+={0,2}$/)
  .max(128);
const decimal = z.string().regex(/^(0|[1-9][0-9]{0,15})$/);
const iterations = z.int().min(1000).max(100_000_000);
const cipher = z.literal('aes-xts-plain64');
const sha256 = z.literal('sha256');

/**
 * The only shape that a data disk may have. A host may write any header it likes: one with a null cipher, a second
 * key of its own, a token, or data elsewhere must not be opened.
 */
const metadataSchema = z.strictObject({
  keyslots: z.strictObject({
    '0': z.strictObject({
      type: z.literal('luks2'),
      key_size: z.literal(64),
      af: z.strictObject({ type: z.literal('luks1'), stripes: z.literal(4000), hash: sha256 }),
      area: z.strictObject({
        type: z.literal('raw'),
        offset: decimal,
        size: decimal,
        encryption: cipher,
        key_size: z.literal(64),
      }),
      kdf: z.strictObject({ type: z.literal('pbkdf2'), hash: sha256, iterations, salt: base64 }),
    }),
  }),
  tokens: z.strictObject({}),
  segments: z.strictObject({
    '0': z.strictObject({
      type: z.literal('crypt'),
      offset: z.literal(String(LUKS_DATA_OFFSET)),
      size: z.literal('dynamic'),
      iv_tweak: z.literal('0'),
      encryption: cipher,
      sector_size: z.literal(512),
    }),
  }),
  digests: z.strictObject({
    '0': z.strictObject({
      type: z.literal('pbkdf2'),
      keyslots: z.tuple([z.literal('0')]),
      segments: z.tuple([z.literal('0')]),
      hash: sha256,
      iterations,
      salt: base64,
      digest: base64,
    }),
  }),
  config: z.strictObject({ json_size: decimal, keyslots_size: decimal }),
});

/**
 * Label of a disk that is being formatted. It goes when the file system is there, so a disk with it holds no data. A
 * host can set it, and have the disk formatted again: it could as well hand over an empty disk.
 */
export const UNFINISHED_LABEL = 'dstack-unfinished';

/** What was found in both copies of a header. */
export interface LuksHeader {
  readonly uuid: string;
  readonly sequence: bigint;
  /** Which keys the disk was made with; undefined when no key service gave them. */
  readonly keyName: KeyName | undefined;
}

/**
 * Checks both copies of a LUKS2 header: their checksums, that they say the same, and that what they say is the one
 * shape that this guest makes.
 *
 * @param bytes the start of the disk, at least both copies
 * @param label that it must have; none but on a disk that this boot has just formatted
 * @throws GuestError `disk-refused`
 */
export function checkLuksHeader(bytes: Uint8Array, label = ''): LuksHeader {
  const size = headerSize(bytes);
  const primary = readCopy(bytes, 0, size, MAGIC.primary, label);
  const secondary = readCopy(bytes, size, size, MAGIC.secondary, label);
  for (const name of ['uuid', 'sequence', 'subsystem', 'json'] as const)
    if (primary[name] !== secondary[name]) throw refused(`two copies that differ in their ${name}`);
  const { uuid, sequence, subsystem, json } = primary;
  let document: unknown;
  try {
    document = parseStrictJson(json);
  } catch (cause) {
    throw refused('metadata that is not JSON, or names a member twice', { cause });
  }
  const parsed = metadataSchema.safeParse(document);
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    throw refused(`metadata that this guest did not make: ${issue?.path.join('.')}: ${issue?.message}`);
  }
  checkAreas(parsed.data, size);
  return { uuid, sequence, keyName: parseDiskKeyName(subsystem) };
}

/**
 * A header whose second copy was not written to its end. cryptsetup writes the first copy, then the second, each without
 * its checksum at first: a power cut can leave a good first copy and a second one whose checksum is zero. Then the second
 * is made from the first, on which alone everything depends.
 *
 * @returns the header with two copies; undefined when nothing was cut off
 */
export function completeLuksHeader(bytes: Uint8Array): Uint8Array | undefined {
  const size = headerSize(bytes);
  const second = bytes.subarray(size, 2 * size);
  const isCut = text(second, 0, 6) === MAGIC.secondary && isZero(checksumOf(second));
  if (!isCut) return undefined;
  const complete = bytes.slice();
  const made = complete.subarray(size, 2 * size);
  made.set(bytes.subarray(0, size));
  made.set(latin1(MAGIC.secondary));
  new DataView(made.buffer, made.byteOffset).setBigUint64(OFFSET_AT, BigInt(size));
  checksumOf(made).fill(0);
  made.set(createHash('sha256').update(made).digest(), CHECKSUM_AT);
  return complete;
}

function checksumOf(copy: Uint8Array): Uint8Array {
  return copy.subarray(CHECKSUM_AT, CHECKSUM_AT + 64);
}

function latin1(characters: string): Uint8Array {
  return new Uint8Array(Buffer.from(characters, 'latin1'));
}

/** What the start of a disk is taken for, before anything of it is believed. */
export type DiskState = 'blank' | 'unfinished' | 'luks';

/**
 * The label is taken away from the first copy of the header, then from the second: as long as one has it, the disk holds
 * no data.
 *
 * @param start the header area, both copies of the size that this guest makes
 * @param data the first bytes of the data area: encrypted data is never all zeros
 * @throws GuestError `disk-refused` for a disk that holds something else
 */
export function diskState(start: Uint8Array, data: Uint8Array): DiskState {
  if (text(start, 0, 6) === MAGIC.primary) {
    const isUnfinished = (at: number, magic: string) =>
      text(start, at, at + 6) === magic &&
      text(start, at + LABEL_AT, at + LABEL_AT + LABEL_BYTES).replace(/\0+$/, '') === UNFINISHED_LABEL;
    return isUnfinished(0, MAGIC.primary) || isUnfinished(HEADER_SIZE, MAGIC.secondary)
      ? 'unfinished'
      : 'luks';
  }
  if (isZero(start) && isZero(data)) return 'blank';
  throw new GuestError(
    'disk-refused',
    'The data disk is neither empty nor encrypted by this guest; it is not touched. Give the machine an empty disk',
  );
}

/** The keyslot's material must lie between the headers and the data. */
function checkAreas(metadata: z.infer<typeof metadataSchema>, size: number): void {
  const { offset, size: length } = metadata.keyslots['0'].area;
  const { json_size, keyslots_size } = metadata.config;
  const [start, end] = [Number(offset), Number(offset) + Number(length)];
  if (Number(json_size) !== size - BINARY) throw refused('a metadata size that is not that of its header');
  if (Number(keyslots_size) > LUKS_DATA_OFFSET - 2 * size)
    throw refused('a key area that reaches into the data');
  if (start < 2 * size || end > LUKS_DATA_OFFSET || end <= start)
    throw refused('a key outside of the key area');
}

function headerSize(bytes: Uint8Array): number {
  if (bytes.length < BINARY) throw refused(`only ${bytes.length} bytes`);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const size = Number(view.getBigUint64(8));
  if (size < MIN_HEADER || size > MAX_HEADER || size % BINARY !== 0 || 2 * size > bytes.length)
    throw refused(`a size of ${size} bytes`);
  return size;
}

interface Copy {
  readonly uuid: string;
  readonly sequence: bigint;
  readonly subsystem: string;
  readonly json: string;
}

function readCopy(all: Uint8Array, at: number, size: number, magic: string, label: string): Copy {
  const bytes = all.slice(at, at + size);
  try {
    const reader = new ByteReader(bytes);
    if (text(reader.take(6), 0, 6) !== magic) throw refused('another signature');
    if (reader.u16be() !== 2) throw refused('another version');
    if (reader.u64be() !== BigInt(size)) throw refused('copies of different sizes');
    const sequence = reader.u64be();
    if (padded(reader.take(LABEL_BYTES)) !== label) throw refused('another label');
    if (padded(reader.take(32)) !== 'sha256') throw refused('another checksum');
    reader.take(64);
    const uuid = padded(reader.take(40));
    const subsystem = padded(reader.take(48));
    if (reader.u64be() !== BigInt(at)) throw refused('a copy in another place');
    checkChecksum(bytes);
    return { uuid, sequence, subsystem, json: padded(bytes.subarray(BINARY)) };
  } catch (cause) {
    if (cause instanceof EncodingError) throw refused('bytes that cannot be read', { cause });
    throw cause;
  }
}

function checkChecksum(bytes: Uint8Array): void {
  const stored = bytes.slice(CHECKSUM_AT, CHECKSUM_AT + 32);
  if (!isZero(bytes.subarray(CHECKSUM_AT + 32, CHECKSUM_AT + 64))) throw refused('a longer checksum');
  bytes.fill(0, CHECKSUM_AT, CHECKSUM_AT + 64);
  const computed = createHash('sha256').update(bytes).digest();
  if (!equalBytes(stored, computed))
    throw refused('a checksum that does not match', { expected: toHex(computed), found: toHex(stored) });
}

/** Text up to the first NUL; only NULs may follow it. */
function padded(bytes: Uint8Array): string {
  const end = bytes.indexOf(0);
  if (end < 0) return utf8Text(bytes);
  if (!isZero(bytes.subarray(end))) throw refused('bytes behind the end of a text');
  return utf8Text(bytes.subarray(0, end));
}

function text(bytes: Uint8Array, start: number, end: number): string {
  return new TextDecoder('latin1').decode(bytes.subarray(start, end));
}

function refused(
  what: string,
  details: { cause?: unknown; expected?: string; found?: string } = {},
): GuestError {
  return new GuestError('disk-refused', `The data disk's LUKS header has ${what}; it is not opened`, details);
}
