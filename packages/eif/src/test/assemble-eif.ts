import { createHash } from 'node:crypto';
import { crc32 } from 'node:zlib';

export interface PlainSection {
  readonly type: number;
  readonly payload: Uint8Array;
}

export interface AssembleOptions {
  readonly version?: number;
  readonly flags?: number;
  /** Changes the header before the checksum is made. */
  readonly change?: (header: Buffer) => void;
}

const bytes = (text: string) => new Uint8Array(Buffer.from(text));

/** The least image there is. */
export const PLAIN: readonly PlainSection[] = [
  { type: 1, payload: bytes('kernel') },
  { type: 2, payload: bytes('console=ttyS0') },
  { type: 3, payload: bytes('first ramdisk') },
  { type: 3, payload: bytes('second ramdisk') },
];

/** An image from its sections, written down as the format is described and without any of the code under test. */
export function assembleEif(sections: readonly PlainSection[], options: AssembleOptions = {}): Uint8Array {
  const header = Buffer.alloc(548);
  header.write('.eif', 0, 'latin1');
  header.writeUInt16BE(options.version ?? 4, 4);
  header.writeUInt16BE(options.flags ?? 0, 6);
  header.writeBigUInt64BE(1073741824n, 8);
  header.writeBigUInt64BE(2n, 16);
  header.writeUInt16BE(sections.length, 26);
  const parts: Buffer[] = [];
  let offset = 548;
  for (const [i, { type, payload }] of sections.entries()) {
    if (i < 32) {
      header.writeBigUInt64BE(BigInt(offset), 28 + 8 * i);
      header.writeBigUInt64BE(BigInt(payload.length), 284 + 8 * i);
    }
    const own = Buffer.alloc(12);
    own.writeUInt16BE(type, 0);
    own.writeBigUInt64BE(BigInt(payload.length), 4);
    parts.push(own, Buffer.from(payload));
    offset += 12 + payload.length;
  }
  options.change?.(header);
  return new Uint8Array(withCrc(Buffer.concat([header, ...parts])));
}

/** The same bytes with the checksum that they need. */
export function withCrc(image: Buffer): Buffer {
  const out = Buffer.from(image);
  out.writeUInt32BE(crc32(out.subarray(548), crc32(out.subarray(0, 544))), 544);
  return out;
}

export interface PlainReading {
  readonly PCR0: string;
  readonly PCR1: string;
  readonly PCR2: string;
  readonly crcIsRight: boolean;
}

/** What an image measures, by the shortest reading of the format: no checks. */
export function plainReading(image: Uint8Array): PlainReading {
  const view = Buffer.from(image);
  const payloads = new Map<number, Buffer[]>();
  for (let at = 548; at < view.length; ) {
    const size = Number(view.readBigUInt64BE(at + 4));
    const type = view.readUInt16BE(at);
    payloads.set(type, [...(payloads.get(type) ?? []), view.subarray(at + 12, at + 12 + size)]);
    at += 12 + size;
  }
  const of = (type: number) => payloads.get(type) ?? [];
  const boot = [...of(1), ...of(2)];
  const [first, ...others] = of(3);
  return {
    PCR0: pcr(...boot, ...of(3)),
    PCR1: pcr(...boot, first!),
    PCR2: pcr(...others),
    crcIsRight: withCrc(view).equals(view),
  };
}

export function pcr(...parts: readonly Uint8Array[]): string {
  const inner = createHash('sha384');
  for (const part of parts) inner.update(part);
  return createHash('sha384').update(Buffer.alloc(48)).update(inner.digest()).digest('hex');
}
