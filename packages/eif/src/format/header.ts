import { ByteReader, ByteWriter, toHex } from '@dstack-cloud/encoding';
import { EifError } from '../errors.ts';

export const HEADER_BYTES = 548;
/** The checksum covers the header up to here, and everything behind the header. */
export const CRC_OFFSET = 544;
export const MAX_SECTIONS = 32;
const MAGIC = '2e656966';
const VERSIONS: readonly number[] = [2, 3, 4];
const FLAG_AARCH64 = 1;

export type Architecture = 'x86_64' | 'aarch64';

/** The first 548 bytes of an EIF (docs/protocol/images.md section 6.1). */
export interface EifHeader {
  /** 2 has a checksum, 3 may have a signature, 4 has metadata. */
  readonly version: number;
  readonly architecture: Architecture;
  readonly defaultMemory: bigint;
  readonly defaultCpus: bigint;
  /** Where each section's own header stands, and how long its payload is. */
  readonly sections: readonly { readonly offset: bigint; readonly size: bigint }[];
  readonly crc32: number;
}

/** @throws EifError `not-an-eif`, `unsupported`, `malformed`, `truncated` */
export function parseHeader(bytes: Uint8Array): EifHeader {
  if (toHex(bytes.subarray(0, 4)) !== MAGIC)
    throw new EifError('not-an-eif', 'This is no enclave image file: it does not begin with ".eif"', {
      found: bytes.length === 0 ? 'an empty file' : toHex(bytes.subarray(0, 4)),
    });
  if (bytes.length < HEADER_BYTES)
    throw new EifError('truncated', 'The enclave image ends inside its header', {
      expected: `${HEADER_BYTES} bytes`,
      found: `${bytes.length} bytes`,
    });
  const reader = new ByteReader(bytes.subarray(4, HEADER_BYTES));
  const version = reader.u16be();
  if (!VERSIONS.includes(version))
    throw new EifError('unsupported', `Enclave images of version ${version} are not known`, {
      expected: 'version 2, 3 or 4',
      found: String(version),
    });
  const flags = reader.u16be();
  if ((flags & ~FLAG_AARCH64) !== 0) malformed('The header has unknown flags', '0 or 1', flags);
  const defaultMemory = reader.u64be();
  const defaultCpus = reader.u64be();
  const reserved = reader.u16be();
  const count = reader.u16be();
  if (count > MAX_SECTIONS)
    malformed('The header counts too many sections', `at most ${MAX_SECTIONS}`, count);
  const offsets = Array.from({ length: MAX_SECTIONS }, () => reader.u64be());
  const sizes = Array.from({ length: MAX_SECTIONS }, () => reader.u64be());
  const unused = reader.u32be();
  if (reserved !== 0 || unused !== 0)
    malformed('The reserved fields of the header are used', '0', reserved || unused);
  const beyond = [...offsets.slice(count), ...sizes.slice(count)].find((value) => value !== 0n);
  if (beyond !== undefined)
    throw new EifError('tables-differ', 'The tables of the header go on after the last section', {
      expected: `${count} sections`,
      found: `an entry of ${beyond} behind them`,
    });
  return {
    version,
    architecture: flags === FLAG_AARCH64 ? 'aarch64' : 'x86_64',
    defaultMemory,
    defaultCpus,
    sections: offsets.slice(0, count).map((offset, i) => ({ offset, size: sizes[i]! })),
    crc32: reader.u32be(),
  };
}

/** The header as it stands in the file. */
export function encodeHeader(header: EifHeader): Uint8Array {
  const out = new ByteWriter();
  out.bytes(new Uint8Array([0x2e, 0x65, 0x69, 0x66]));
  out.u16be(header.version);
  out.u16be(header.architecture === 'aarch64' ? FLAG_AARCH64 : 0);
  out.u64be(header.defaultMemory);
  out.u64be(header.defaultCpus);
  out.u16be(0);
  out.u16be(header.sections.length);
  for (const field of ['offset', 'size'] as const)
    for (let i = 0; i < MAX_SECTIONS; i++) out.u64be(header.sections[i]?.[field] ?? 0n);
  out.u32be(0);
  out.u32be(header.crc32);
  return out.finish();
}

function malformed(message: string, expected: string, found: number): never {
  throw new EifError('malformed', message, { expected, found: String(found) });
}
