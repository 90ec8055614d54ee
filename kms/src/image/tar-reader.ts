import { AttestationError } from '@dstack-cloud/attestation';
import { utf8Text } from '@dstack-cloud/encoding';

const BLOCK = 512;
/** Files in one image; real ones have about ten. */
const MAX_ENTRIES = 256;
const MAX_NAME_BYTES = 256;

/** One entry of an archive; its content must be read, or skipped, before the next one. */
export type TarEntry = {
  readonly name: string;
  readonly type: 'file' | 'directory';
  readonly size: number;
  /** The content, in pieces. */
  content(): AsyncGenerator<Uint8Array>;
};

/**
 * Reads a tar archive (POSIX.1-2001 ustar, with GNU's long names) of plain files and directories. Links, devices and
 * everything else that could lead out of the target are refused, and so are names that do.
 * @throws AttestationError `image`
 */
export async function* readTar(input: AsyncIterable<Uint8Array>): AsyncGenerator<TarEntry> {
  const source = new BlockSource(input);
  let longName: string | undefined;
  for (let count = 0; ; count++) {
    const header = await source.block();
    if (header === undefined || header.every((byte) => byte === 0)) return;
    if (count >= MAX_ENTRIES) throw refused(`more than ${MAX_ENTRIES} entries`);
    checkSum(header);
    const size = octal(header, 124, 12);
    const kind = String.fromCharCode(header[156]!);
    if (kind === 'L') {
      if (size > MAX_NAME_BYTES) throw refused('a name that is too long');
      longName = text(await source.whole(size));
      continue;
    }
    const name = cleanName(longName ?? headerName(header));
    longName = undefined;
    if (kind !== '0' && kind !== '\0' && kind !== '5')
      throw refused(`an entry of type ${JSON.stringify(kind)}`);
    let taken = false;
    yield {
      name,
      type: kind === '5' ? 'directory' : 'file',
      size,
      content: () => {
        taken = true;
        return source.pieces(size);
      },
    };
    if (!taken) for await (const _ of source.pieces(size)) void _;
  }
}

/** Cuts a stream of pieces into what a tar reader asks for. */
class BlockSource {
  readonly #input: AsyncIterator<Uint8Array>;
  #pending: Uint8Array = new Uint8Array();

  constructor(input: AsyncIterable<Uint8Array>) {
    this.#input = input[Symbol.asyncIterator]();
  }

  /** The next header, or nothing at the end of the input. */
  async block(): Promise<Uint8Array | undefined> {
    const block = new Uint8Array(BLOCK);
    let filled = 0;
    while (filled < BLOCK) {
      const piece = await this.#take(BLOCK - filled);
      if (piece === undefined) {
        if (filled === 0) return undefined;
        throw refused('a header that is cut off');
      }
      block.set(piece, filled);
      filled += piece.length;
    }
    return block;
  }

  async whole(size: number): Promise<Uint8Array> {
    const bytes = new Uint8Array(size);
    let offset = 0;
    for await (const piece of this.pieces(size)) {
      bytes.set(piece, offset);
      offset += piece.length;
    }
    return bytes;
  }

  /** Content of `size` bytes, and the padding after it. */
  async *pieces(size: number): AsyncGenerator<Uint8Array> {
    for (let left = size; left > 0; ) {
      const piece = await this.#take(left);
      if (piece === undefined) throw refused('a file that is cut off');
      left -= piece.length;
      yield piece;
    }
    for (let padding = (BLOCK - (size % BLOCK)) % BLOCK; padding > 0; ) {
      const piece = await this.#take(padding);
      if (piece === undefined) throw refused('a file that is cut off');
      padding -= piece.length;
    }
  }

  async #take(max: number): Promise<Uint8Array | undefined> {
    while (this.#pending.length === 0) {
      const next = await this.#input.next();
      if (next.done === true) return undefined;
      this.#pending = next.value;
    }
    const piece = this.#pending.subarray(0, max);
    this.#pending = this.#pending.subarray(piece.length);
    return piece;
  }
}

/** Sum of all bytes, with the field itself taken as blanks. */
function checkSum(header: Uint8Array): void {
  const expected = octal(header, 148, 8);
  const sum = header.reduce((total, byte, index) => total + (index >= 148 && index < 156 ? 0x20 : byte), 0);
  if (sum !== expected) throw refused('a header whose checksum is wrong');
}

function octal(header: Uint8Array, offset: number, length: number): number {
  const digits = text(header.subarray(offset, offset + length)).trim();
  if (!/^[0-7]{1,12}$/.test(digits)) throw refused('a number that is not octal');
  return Number.parseInt(digits, 8);
}

function headerName(header: Uint8Array): string {
  const name = text(header.subarray(0, 100));
  const isUstar = text(header.subarray(257, 262)) === 'ustar' && header[262] === 0;
  const prefix = isUstar ? text(header.subarray(345, 500)) : '';
  return prefix === '' ? name : `${prefix}/${name}`;
}

/** Relative, without `..`, of letters that file names of images have. */
function cleanName(name: string): string {
  const clean = name.replace(/^(\.\/)+/, '').replace(/\/+$/, '');
  const parts = clean.split('/');
  const safe = parts.every((part) => /^[A-Za-z0-9._+-]{1,128}$/.test(part) && !/^\.+$/.test(part));
  if (clean !== '' && clean !== '.' && !safe) throw refused(`the name ${JSON.stringify(name.slice(0, 100))}`);
  return clean === '.' ? '' : clean;
}

function text(bytes: Uint8Array): string {
  const end = bytes.indexOf(0);
  try {
    return utf8Text(end < 0 ? bytes : bytes.subarray(0, end));
  } catch {
    throw refused('a name that is no text');
  }
}

function refused(what: string): AttestationError {
  return new AttestationError('image', `The archive of the OS image holds ${what}`);
}
