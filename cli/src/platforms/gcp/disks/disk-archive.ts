import { promisify } from 'node:util';
import { constants, crc32, deflateRaw, deflateRawSync } from 'node:zlib';
import { utf8 } from '@dstack-cloud/encoding';
import { zeroRun } from './crc-of-zeros.ts';

const deflate = promisify(deflateRaw);
const MIB = 1024 * 1024;
const GIB = 1024 * MIB;
const BLOCK = 512;
/** Compressed alone and to a byte's end, a piece can stand anywhere in a stream (RFC 1951 section 3.2.4). */
const ALONE = { level: 6, finishFlush: constants.Z_FULL_FLUSH } as const;
const STORED = { ...ALONE, level: 0 } as const;
const EMPTY = new Uint8Array(MIB);
/** Parts of a piece that are tried, and how much smaller they have to become for the whole to be compressed. */
const SAMPLES = 4;
const SAMPLE_BYTES = 4096;
const WORTH_IT = 0.97;

/** Bytes of a disk; what lies between them is zero. */
export interface DiskPiece {
  readonly offset: number;
  readonly data: Uint8Array;
}

/**
 * The archive that Google makes an image from: gzip over tar in the old GNU format, whose only member is `disk.raw`, zeros
 * up to whole GiB. Long runs of zeros cost nothing. Equal disks give equal bytes.
 *
 * @param pieces in order, none over another
 */
export async function* diskArchive(
  size: number,
  pieces: Iterable<DiskPiece> | AsyncIterable<DiskPiece>,
): AsyncGenerator<Uint8Array> {
  const whole = Math.ceil(size / GIB) * GIB;
  let crc = 0;
  let position = 0;
  const zeros = await deflate(EMPTY, ALONE);
  const overMib = zeroRun(MIB);
  const pack = async (data: Uint8Array): Promise<Uint8Array> => {
    crc = crc32(data, crc);
    return await deflate(data, isDense(data) ? STORED : ALONE);
  };
  async function* skip(count: number): AsyncGenerator<Uint8Array> {
    let rest = count;
    for (; rest >= MIB; rest -= MIB) {
      crc = overMib(crc);
      yield zeros;
    }
    if (rest > 0) yield await pack(new Uint8Array(rest));
  }
  // Method deflate, no name, no time, made on Unix (RFC 1952 section 2.3).
  yield Uint8Array.of(0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3);
  yield await pack(tarHeader(whole));
  for await (const { offset, data } of pieces) {
    if (offset < position) throw new RangeError(`A piece at ${offset} lies before ${position}`);
    yield* skip(offset - position);
    for (let at = 0; at < data.length; at += MIB) {
      const part = data.subarray(at, at + MIB);
      if (part.length === MIB && Buffer.compare(part, EMPTY) === 0) yield* skip(MIB);
      else yield await pack(part);
    }
    position = offset + data.length;
  }
  if (position > whole) throw new RangeError(`The disk has ${position} bytes instead of ${whole}`);
  yield* skip(whole - position);
  yield await pack(new Uint8Array(2 * BLOCK));
  const end = new DataView(new ArrayBuffer(10));
  // An empty last block, then the checksum and the size of all.
  end.setUint8(0, 3);
  end.setUint32(2, crc, true);
  end.setUint32(6, (BLOCK + whole + 2 * BLOCK) % 2 ** 32, true);
  yield new Uint8Array(end.buffer);
}

/** What was compressed already, as a file system of an OS image is, only takes time to compress again. */
function isDense(data: Uint8Array): boolean {
  if (data.length < SAMPLES * SAMPLE_BYTES) return false;
  const step = Math.floor(data.length / SAMPLES);
  const sample = Buffer.concat(
    Array.from({ length: SAMPLES }, (_, i) => data.subarray(i * step, i * step + SAMPLE_BYTES)),
  );
  return deflateRawSync(sample, { level: 1 }).length > sample.length * WORTH_IT;
}

/** One header of GNU tar before POSIX (`tar --format=oldgnu`). */
function tarHeader(size: number): Uint8Array {
  const header = new Uint8Array(BLOCK);
  const put = (at: number, text: string): void => header.set(utf8(text), at);
  put(0, 'disk.raw');
  put(100, '0000644\0');
  put(108, '0000000\0');
  put(116, '0000000\0');
  if (size < 8 ** 11) put(124, `${size.toString(8).padStart(11, '0')}\0`);
  else {
    header[124] = 0x80;
    new DataView(header.buffer).setBigUint64(128, BigInt(size));
  }
  put(136, '00000000000\0');
  put(148, '        ');
  put(156, '0');
  put(257, 'ustar  \0');
  const sum = header.reduce((all, byte) => all + byte, 0);
  put(148, `${sum.toString(8).padStart(6, '0')}\0 `);
  return header;
}
