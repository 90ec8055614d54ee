/** A ClientHello may be this long, record headers included: post-quantum key shares and ECH need several kilobytes. */
export const MAX_CLIENT_HELLO: number = 16 * 1024 + 5;

const RECORD_HEADER = 5;
const HANDSHAKE_RECORD = 22;
const CLIENT_HELLO = 1;
const SERVER_NAME = 0;
const HOST_NAME = 0;
/** RFC 8446 section 5.1: a record of more than 2^14 bytes is not sent in the clear. */
const MAX_RECORD = 2 ** 14;
/** More than any client uses; each one that comes costs another reading of all. */
const MAX_RECORDS = 64;
/** RFC 1035 section 2.3.4. */
const MAX_NAME = 253;

/** What the first bytes of a connection say. */
export type ServerName =
  /** Whole so far, but not all is there: reading again makes sense with so many bytes. */
  | { readonly kind: 'more'; readonly atLeast: number }
  /** Lower case, without a final dot. */
  | { readonly kind: 'name'; readonly name: string }
  /** A client that speaks HTTP to a TLS port. */
  | { readonly kind: 'http' }
  | { readonly kind: 'refused'; readonly why: string };

/**
 * Reads the server name from the beginning of a TLS connection (RFC 8446 section 4.1.2, RFC 6066 section 3), which may
 * come in any number of pieces and records. Says no as soon as the bytes cannot become a ClientHello with a name.
 * @param bytes all that has come so far
 */
export function readServerName(bytes: Uint8Array): ServerName {
  const found = read(bytes);
  if (found.kind === 'more' && bytes.length >= MAX_CLIENT_HELLO)
    return refused('the ClientHello is too long');
  return found;
}

function read(bytes: Uint8Array): ServerName {
  if (bytes.length === 0) return { kind: 'more', atLeast: 1 };
  if (bytes[0] !== HANDSHAKE_RECORD) return isHttp(bytes) ? { kind: 'http' } : refused('not TLS');
  const records = handshakeBytes(bytes);
  if (typeof records === 'string') return refused(records);
  const { message, next } = records;
  const more: ServerName = { kind: 'more', atLeast: next };
  if (message.length === 0) return more;
  if (message[0] !== CLIENT_HELLO) return refused('not a ClientHello');
  if (message.length < 4) return more;
  const length = (message[1]! << 16) | (message[2]! << 8) | message[3]!;
  if (length + 4 > MAX_CLIENT_HELLO) return refused('the ClientHello is too long');
  return nameIn(new Cursor(message.subarray(4, 4 + length), length), more);
}

/**
 * The payload of the handshake records that are there, and how many bytes there are with the next whole header or record;
 * or why they are none.
 */
function handshakeBytes(bytes: Uint8Array): { message: Uint8Array; next: number } | string {
  const parts: Uint8Array[] = [];
  let offset = 0;
  let next = RECORD_HEADER;
  while (offset < bytes.length) {
    if (bytes[offset] !== HANDSHAKE_RECORD) return 'a record within the ClientHello is of another kind';
    if (offset + 1 < bytes.length && bytes[offset + 1] !== 3) return 'not TLS';
    next = offset + RECORD_HEADER;
    if (next > bytes.length) break;
    const length = (bytes[offset + 3]! << 8) | bytes[offset + 4]!;
    if (length === 0) return 'an empty handshake record';
    if (length > MAX_RECORD) return 'a TLS record is too long';
    if (parts.length >= MAX_RECORDS) return 'the ClientHello is in too many records';
    parts.push(bytes.subarray(offset + RECORD_HEADER, offset + RECORD_HEADER + length));
    offset += RECORD_HEADER + length;
    next = offset > bytes.length ? offset : offset + RECORD_HEADER;
  }
  return { message: parts.length === 1 ? parts[0]! : Buffer.concat(parts), next };
}

/** Reads within a message of which perhaps only the beginning is there. */
class Cursor {
  readonly #bytes: Uint8Array;
  readonly #end: number;
  #offset = 0;

  /** @param end length of the whole */
  constructor(bytes: Uint8Array, end: number) {
    this.#bytes = bytes;
    this.#end = end;
  }

  get isAtEnd(): boolean {
    return this.#offset >= this.#end;
  }

  /** @throws Stop without a result when the bytes are not there yet, or with a refusal */
  take(length: number): Uint8Array {
    if (this.#offset + length > this.#end) throw new Stop(refused('the ClientHello is malformed'));
    if (this.#offset + length > this.#bytes.length) throw new Stop(undefined);
    const taken = this.#bytes.subarray(this.#offset, this.#offset + length);
    this.#offset += length;
    return taken;
  }

  number(bytes: 1 | 2): number {
    const taken = this.take(bytes);
    return bytes === 1 ? taken[0]! : (taken[0]! << 8) | taken[1]!;
  }

  /** A part of so many bytes, which may not be there as a whole. */
  part(length: number): Cursor {
    if (this.#offset + length > this.#end) throw new Stop(refused('the ClientHello is malformed'));
    const part = new Cursor(this.#bytes.subarray(this.#offset, this.#offset + length), length);
    this.#offset += length;
    return part;
  }
}

class Stop extends Error {
  readonly result: ServerName | undefined;

  constructor(result: ServerName | undefined) {
    super();
    this.result = result;
  }
}

function nameIn(hello: Cursor, more: ServerName): ServerName {
  try {
    hello.take(2 + 32);
    hello.take(hello.number(1));
    hello.take(hello.number(2));
    hello.take(hello.number(1));
    if (hello.isAtEnd) return refused('no server name');
    const extensions = hello.part(hello.number(2));
    while (!extensions.isAtEnd) {
      const type = extensions.number(2);
      const body = extensions.part(extensions.number(2));
      if (type === SERVER_NAME) return hostName(body);
      // Skipping what has not come leaves the next read to say so.
    }
    return refused('no server name');
  } catch (error) {
    if (error instanceof Stop) return error.result ?? more;
    throw error;
  }
}

function hostName(extension: Cursor): ServerName {
  const list = extension.part(extension.number(2));
  while (!list.isAtEnd) {
    const type = list.number(1);
    const bytes = list.take(list.number(2));
    if (type === HOST_NAME) return checked(bytes);
  }
  return refused('no server name');
}

/** Letters, digits, dashes, dots and underscores: what an address or a name of DNS may hold, and a log may show. */
function checked(bytes: Uint8Array): ServerName {
  const name = Buffer.from(bytes).toString('latin1').toLowerCase().replace(/\.$/, '');
  if (name.length === 0 || name.length > MAX_NAME) return refused('the server name has no valid length');
  if (!/^[a-z0-9_.-]+$/.test(name)) return refused('the server name has characters that no host name has');
  if (/^[0-9.]+$/.test(name)) return refused('the server name is an address');
  return { kind: 'name', name };
}

function isHttp(bytes: Uint8Array): boolean {
  const start = Buffer.from(bytes.subarray(0, 8)).toString('latin1');
  return /^(GET|HEAD|POST|PUT|DELETE|OPTIONS|PATCH) /.test(start);
}

function refused(why: string): ServerName {
  return { kind: 'refused', why };
}
