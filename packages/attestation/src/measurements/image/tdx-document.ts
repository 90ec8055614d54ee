import { ByteReader, ByteWriter, encodeCbor } from '@dstack-cloud/encoding';
import { CborDocument } from '../../codec/cbor-document.ts';
import { decoding } from '../../decoding.ts';
import { AttestationError } from '../../errors.ts';

const PAGE = 4096;
const MAX_RANGES = 64;

/** Memory that the firmware accepts before it builds the rest of the HOB list: [start, end) in bytes. */
interface AcceptedRange {
  readonly start: number;
  readonly end: number;
}

/** `measurement.tdx.cbor`: what an image and its firmware measure on bare TDX (docs/protocol/images.md section 3.2). */
export interface TdxMeasurementDocument {
  readonly commandLineSha384: Uint8Array;
  readonly kernelAuthenticode: Uint8Array;
  readonly initrdSha384: Uint8Array;
  /** Generation of the firmware, e.g. `pre202505`. */
  readonly ovmfVariant: string;
  readonly mrtd: { readonly singlePass: Uint8Array; readonly twoPass: Uint8Array };
  readonly hob: {
    /** Address of the TD HOB list. */
    readonly address: number;
    readonly accepted: readonly AcceptedRange[];
  };
}

/** @throws AttestationError `malformed`, `unsupported` */
export function parseTdxDocument(bytes: Uint8Array): TdxMeasurementDocument {
  const document = CborDocument.parse(bytes, 'measurement.tdx.cbor');
  document.version(3);
  const image = document.map('image');
  const tdvf = document.map('tdvf');
  const mrtd = tdvf.map('mrtd');
  const result = {
    commandLineSha384: image.bytes('cmdline_sha384', 48),
    kernelAuthenticode: image.bytes('kernel_authenticode', 48),
    initrdSha384: image.bytes('initrd_sha384', 48),
    ovmfVariant: tdvf.text('ovmf'),
    mrtd: { singlePass: mrtd.bytes('single_pass', 48), twoPass: mrtd.bytes('two_pass', 48) },
    hob: parseHob(tdvf.bytes('td_hob')),
  };
  for (const part of [image, mrtd, tdvf, document]) part.finish();
  return result;
}

/** The bytes of the document, the inverse of `parseTdxDocument`. */
export function encodeTdxDocument(document: TdxMeasurementDocument): Uint8Array {
  const { mrtd, hob } = document;
  return encodeCbor({
    version: 3,
    image: {
      cmdline_sha384: document.commandLineSha384,
      kernel_authenticode: document.kernelAuthenticode,
      initrd_sha384: document.initrdSha384,
    },
    tdvf: {
      ovmf: document.ovmfVariant,
      mrtd: { single_pass: mrtd.singlePass, two_pass: mrtd.twoPass },
      td_hob: encodeHob(hob),
    },
  });
}

function encodeHob({ address, accepted }: TdxMeasurementDocument['hob']): Uint8Array {
  const base = Math.min(address, ...accepted.map(({ start }) => start));
  const out = new ByteWriter();
  writeLeb128(out, base / PAGE);
  writeLeb128(out, (address - base) / PAGE);
  writeLeb128(out, accepted.length);
  for (const { start, end } of accepted) {
    writeLeb128(out, (start - base) / PAGE);
    writeLeb128(out, (end - start) / PAGE);
  }
  return out.finish();
}

function writeLeb128(out: ByteWriter, value: number): void {
  let rest = value;
  for (; rest >= 0x80; rest = Math.floor(rest / 128)) out.u8((rest % 128) | 0x80);
  out.u8(rest);
}

/** LEB128 numbers, in pages: base, HOB - base, count, then (start - base, length) for each accepted range. */
function parseHob(bytes: Uint8Array): TdxMeasurementDocument['hob'] {
  return decoding('TD HOB description', () => {
    const reader = new ByteReader(bytes);
    const base = leb128(reader);
    const address = (base + leb128(reader)) * PAGE;
    const count = leb128(reader);
    if (count > MAX_RANGES) throw new AttestationError('too-large', `TD HOB with ${count} accepted ranges`);
    const accepted: AcceptedRange[] = [];
    for (let i = 0; i < count; i++) {
      const start = (base + leb128(reader)) * PAGE;
      accepted.push({ start, end: start + leb128(reader) * PAGE });
    }
    reader.finish();
    return { address, accepted };
  });
}

/** Unsigned, at most 40 bits: more than the pages of any machine. */
function leb128(reader: ByteReader): number {
  let value = 0;
  for (let scale = 1; scale < 2 ** 40; scale *= 128) {
    const byte = reader.u8();
    value += (byte & 0x7f) * scale;
    if (byte < 0x80) return value;
  }
  throw new AttestationError('malformed', 'TD HOB description with a number of more than 40 bits');
}
