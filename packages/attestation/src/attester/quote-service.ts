import type { Duplex } from 'node:stream';
import { ByteReader, ByteWriter, EncodingError } from '@dstack-cloud/encoding';
import { AttestationError } from '../errors.ts';

const HEADER_BYTES = 16;
const TD_REPORT_BYTES = 1024;
const REQUEST_BYTES = HEADER_BYTES + 8 + TD_REPORT_BYTES;
const MAJOR = 1;
const GET_QUOTE_REQUEST = 0;
const GET_QUOTE_RESPONSE = 1;
const MAX_FRAME = 16_384;
const MIN_QUOTE = 1020;

/**
 * Asks the host's quote generation service over an open stream (vsock, CID 2; a unix socket in tests) to turn a
 * TDREPORT into a quote (docs/protocol/evidence.md section 12.3).
 * @throws AttestationError `device`
 */
export async function quoteFromService(
  stream: Duplex,
  tdReport: Uint8Array,
  timeoutMs: number,
): Promise<Uint8Array> {
  const request = quoteRequest(tdReport);
  const frame = await exchangeFrame(
    stream,
    new ByteWriter().u32be(request.length).bytes(request).finish(),
    timeoutMs,
  );
  try {
    return parseQuoteResponse(frame);
  } catch (cause) {
    if (!(cause instanceof EncodingError)) throw cause;
    throw new AttestationError('device', `Quote service: ${cause.message}`, { cause });
  }
}

/** The 1048-byte request message, without its frame. */
export function quoteRequest(tdReport: Uint8Array): Uint8Array {
  if (tdReport.length !== TD_REPORT_BYTES)
    throw new AttestationError('malformed', 'A TDREPORT has 1024 bytes');
  return new ByteWriter()
    .u16le(MAJOR)
    .u16le(0)
    .u32le(GET_QUOTE_REQUEST)
    .u32le(REQUEST_BYTES)
    .u32le(0)
    .u32le(TD_REPORT_BYTES)
    .u32le(0)
    .bytes(tdReport)
    .finish();
}

function parseQuoteResponse(message: Uint8Array): Uint8Array {
  const reader = new ByteReader(message);
  const major = reader.u16le();
  reader.u16le();
  const type = reader.u32le();
  const size = reader.u32le();
  const errorCode = reader.u32le();
  if (errorCode !== 0) {
    throw new AttestationError('device', 'The quote service refused', { found: `error ${errorCode}` });
  }
  if (major !== MAJOR || type !== GET_QUOTE_RESPONSE || size !== message.length) {
    throw new AttestationError('device', 'The quote service sent another message', {
      expected: `version ${MAJOR}, type ${GET_QUOTE_RESPONSE}, size ${message.length}`,
      found: `version ${major}, type ${type}, size ${size}`,
    });
  }
  const idSize = reader.u32le();
  const quoteSize = reader.u32le();
  reader.take(idSize);
  const quote = reader.take(quoteSize);
  reader.finish();
  if (quote.length < MIN_QUOTE) {
    throw new AttestationError('device', 'The quote service gave a quote that is too short', {
      expected: `at least ${MIN_QUOTE} bytes`,
      found: `${quote.length}`,
    });
  }
  return quote.slice();
}

/** Sends one frame and reads one: u32 BE length, then the message. */
function exchangeFrame(stream: Duplex, request: Uint8Array, timeoutMs: number): Promise<Uint8Array> {
  return new Promise((resolve, reject) => {
    const parts: Uint8Array[] = [];
    let length = 0;
    const finish = (error: AttestationError | undefined, frame?: Uint8Array): void => {
      clearTimeout(timer);
      stream.off('data', receive);
      stream.destroy();
      if (error) reject(error);
      else resolve(frame!);
    };
    const fail = (message: string, cause?: unknown): void =>
      finish(new AttestationError('device', `Quote service: ${message}`, { cause }));
    const receive = (chunk: Uint8Array): void => {
      parts.push(chunk);
      length += chunk.length;
      const all = new Uint8Array(Buffer.concat(parts));
      const wanted = length < 4 ? 0 : new DataView(all.buffer, all.byteOffset).getUint32(0);
      if (Math.max(length - 4, wanted) > MAX_FRAME) fail('the answer is too long');
      else if (length < 4 || length < wanted + 4) return;
      else if (length > wanted + 4) fail('bytes follow the answer');
      else finish(undefined, all.subarray(4));
    };
    const timer = setTimeout(() => fail(`no answer in ${timeoutMs} ms`), timeoutMs);
    stream.on('data', receive);
    stream.once('error', (cause) => fail(cause.message, cause));
    stream.once('close', () => fail('connection closed'));
    stream.write(request);
  });
}
