import {
  create,
  type DescMessage,
  type DescMethod,
  fromBinary,
  isMessage,
  type Message,
  type MessageInitShape,
  toBinary,
} from '@bufbuild/protobuf';
import { EmptySchema } from '@bufbuild/protobuf/wkt';
import { PrpcError, type RpcErrorCode } from '../errors.ts';
import { decodeJson, decodeQuery } from '../json/decode-json.ts';
import { encodeJson } from '../json/encode-json.ts';
import { checkWire } from './check-wire.ts';
import type { PlainResponse } from './options.ts';

const fatalUtf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** Whether the caller wants JSON: GET, `?json`, or the content type (docs/protocol/kms.md section 1.2). */
export function wantsJson(verb: string, query: string, contentType: string | undefined): boolean {
  if (verb !== 'POST') return true;
  if (query !== '' && /(?:^|&)json(?:=(?:1|true)?)?(?:&|$)/.test(query)) return true;
  if (contentType === undefined) return false;
  const end = contentType.indexOf(';');
  return (end < 0 ? contentType : contentType.slice(0, end)).trim().toLowerCase() === 'application/json';
}

/** Whether a method has no arguments. */
export function takesNothing({ input }: DescMethod): boolean {
  return input.typeName === EmptySchema.typeName;
}

/** Reads the request message; methods without arguments take anything. */
export function decodeRequest(
  method: DescMethod,
  input: { readonly json: boolean; readonly query?: string; readonly body: Uint8Array },
): Message {
  const desc: DescMessage = method.input;
  if (takesNothing(method)) return create(desc);
  if (input.query !== undefined) return decodeQuery(desc, input.query);
  if (input.json) return decodeJson(desc, jsonText(input.body));
  checkWire(desc, input.body);
  try {
    return fromBinary(desc, input.body, { readUnknownFields: false });
  } catch (error) {
    const reason = error instanceof Error ? error.message : 'invalid message';
    throw new PrpcError('bad_protobuf', `failed to decode Protobuf message: ${reason}`, { cause: error });
  }
}

function jsonText(body: Uint8Array): string {
  try {
    return fatalUtf8.decode(body);
  } catch {
    throw new PrpcError('bad_json', 'invalid unicode code point at line 1 column 1');
  }
}

type Encoded = { json?: Uint8Array; binary?: Uint8Array };
const memoized = new WeakMap<Message, Encoded>();

/**
 * Keeps the encoded forms of an answer that is given many times; the message must not change afterwards. They are kept
 * as bytes: a string would be joined with the headers, and thereby copied, for each answer.
 */
export function memoizeEncoding<T extends Message>(message: T): T {
  if (!memoized.has(message)) memoized.set(message, {});
  return message;
}

/** Writes the answer of a method: `null` and no bytes for methods that return nothing. */
export function encodeResponse(method: DescMethod, result: unknown, json: boolean): PlainResponse {
  const type = json ? 'application/json' : 'application/octet-stream';
  const desc: DescMessage = method.output;
  if (desc.typeName === EmptySchema.typeName) return { type, body: json ? 'null' : new Uint8Array() };
  const message = isMessage(result) ? result : create(desc, result as MessageInitShape<typeof desc>);
  const kept = memoized.get(message);
  if (kept === undefined) return { type, body: json ? encodeJson(desc, message) : toBinary(desc, message) };
  if (json) kept.json ??= ascii(encodeJson(desc, message));
  else kept.binary ??= toBinary(desc, message);
  return { type, body: (json ? kept.json : kept.binary)! };
}

/** Bytes of a JSON text of ours, in which everything but ASCII is escaped. */
function ascii(text: string): Uint8Array {
  return Buffer.from(text, 'latin1');
}

/** The error forms of docs/protocol/kms.md section 1.4, with our documented `code` beside `error`. */
export function encodeError(
  text: string,
  code: RpcErrorCode | undefined,
  status: number,
  json: boolean,
): PlainResponse {
  if (json) {
    const body = JSON.stringify(code === undefined ? { error: text } : { error: text, code }, null, 2);
    return { status, type: 'application/json', body: escapeError(body) };
  }
  const message = new TextEncoder().encode(text);
  return { status, type: 'application/octet-stream', body: lengthDelimited(1, message) };
}

function escapeError(text: string): string {
  return text.replace(/[\u007f-\uffff]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`);
}

/** One protobuf field of wire type 2 (protobuf encoding guide, "length-delimited records"). */
function lengthDelimited(field: number, bytes: Uint8Array): Uint8Array {
  if (bytes.length === 0) return bytes;
  const head = [field * 8 + 2];
  let length = bytes.length;
  for (; length > 0x7f; length = Math.floor(length / 128)) head.push((length % 128) + 128);
  head.push(length);
  return Uint8Array.from([...head, ...bytes]);
}
