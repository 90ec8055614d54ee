import { type FileHandle, open, rename, rm } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { ByteWriter } from '@dstack-cloud/encoding';
import { removeAbandoned, temporaryName } from '@dstack-cloud/files';
import { EifError } from '../errors.ts';
import { joinCrc, updateCrc } from '../format/crc32.ts';
import {
  type Architecture,
  CRC_OFFSET,
  type EifHeader,
  encodeHeader,
  HEADER_BYTES,
} from '../format/header.ts';
import { requireRoom, SECTION_HEADER_BYTES, SECTION_TYPES, type SectionName } from '../format/sections.ts';
import { PcrHasher, type Pcrs } from '../measure/pcrs.ts';

export interface EifFormat {
  readonly version: number;
  readonly architecture: Architecture;
  readonly defaultMemory: bigint;
  readonly defaultCpus: bigint;
}

/**
 * Writes an enclave image beside its final place, measured and summed as it is written, and puts it there whole. The header
 * comes first in the file and last in time: the signature, whose length it names, is over PCR 0.
 */
export class EifWriter {
  readonly #handle: FileHandle;
  readonly #temporary: string;
  readonly #output: string;
  readonly #format: EifFormat;
  readonly #hasher: PcrHasher;
  readonly #sections: { offset: bigint; size: bigint }[] = [];
  #length = 0;
  #crc = 0;

  private constructor(
    handle: FileHandle,
    temporary: string,
    output: string,
    format: EifFormat,
    hasher: PcrHasher,
  ) {
    this.#handle = handle;
    this.#temporary = temporary;
    this.#output = output;
    this.#format = format;
    this.#hasher = hasher;
  }

  /** @param size about how large it becomes */
  static async create(output: string, format: EifFormat, size: number): Promise<EifWriter> {
    const folder = dirname(output);
    removeAbandoned(folder);
    const temporary = join(folder, temporaryName(basename(output)));
    const handle = await open(temporary, 'wx', 0o644);
    return new EifWriter(handle, temporary, output, format, new PcrHasher(size));
  }

  /** @throws EifError `changed` when the payload has another length than announced */
  async section(name: SectionName, size: number, payload: AsyncIterable<Uint8Array>): Promise<void> {
    requireRoom(this.#sections.length + 1);
    this.#sections.push({ offset: BigInt(HEADER_BYTES + this.#length), size: BigInt(size) });
    const header = new ByteWriter().u16be(SECTION_TYPES[name]).u16be(0).u64be(BigInt(size)).finish();
    await this.#put(header, async () => undefined);
    const end = this.#length + size;
    const measure = this.#hasher.section(name);
    for await (const piece of payload) {
      if (this.#length + piece.length > end) break;
      await this.#put(piece, measure);
    }
    if (this.#length !== end)
      throw new EifError('changed', `The ${name} changed its length while it was read`, {
        expected: `${size} bytes`,
      });
  }

  /** What is written so far, measured. */
  pcrs(): Promise<Pcrs> {
    return this.#hasher.digest();
  }

  /** Puts the finished image in its place. */
  async finish(): Promise<void> {
    const header: EifHeader = { ...this.#format, sections: this.#sections, crc32: 0 };
    const first = updateCrc(0, encodeHeader(header).subarray(0, CRC_OFFSET));
    const crc32 = joinCrc(first, this.#crc, this.#length);
    await writeAll(this.#handle, encodeHeader({ ...header, crc32 }), 0);
    await this.#handle.sync();
    await this.#handle.close();
    await rename(this.#temporary, this.#output);
    await this.#hasher.close();
  }

  /** Leaves nothing behind; does nothing after {@link finish}. */
  async discard(): Promise<void> {
    await this.#hasher.close();
    await this.#handle.close().catch(() => undefined);
    await rm(this.#temporary, { force: true });
  }

  async #put(piece: Uint8Array, measure: (piece: Uint8Array) => Promise<void>): Promise<void> {
    const written = writeAll(this.#handle, piece, HEADER_BYTES + this.#length);
    written.catch(() => undefined);
    await measure(piece);
    this.#crc = updateCrc(this.#crc, piece);
    this.#length += piece.length;
    await written;
  }
}

async function writeAll(handle: FileHandle, bytes: Uint8Array, position: number): Promise<void> {
  for (let at = 0; at < bytes.length; ) {
    const { bytesWritten } = await handle.write(bytes, at, bytes.length - at, position + at);
    at += bytesWritten;
  }
}

/** Sections in memory are payloads in one piece. */
export async function* onePiece(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes;
}

/** Bytes of a file with payloads of these sizes. */
export function eifSize(sizes: readonly number[]): number {
  return sizes.reduce((total, size) => total + SECTION_HEADER_BYTES + size, HEADER_BYTES);
}
