import { PassThrough } from 'node:stream';
import { ByteWriter, toHex } from '@dstack-cloud/encoding';
import { describe, expect, test } from 'vitest';
import { quoteFromService, quoteRequest } from './quote-service.ts';

const REPORT = new Uint8Array(1024).fill(7);
const QUOTE = new Uint8Array(1100).fill(3);

interface Response {
  readonly major?: number;
  readonly type?: number;
  readonly size?: number;
  readonly error?: number;
  readonly quote?: Uint8Array;
  readonly quoteSize?: number;
  readonly id?: Uint8Array;
  readonly frame?: number;
  readonly after?: Uint8Array;
}

function response(options: Response = {}): Uint8Array {
  const { quote = QUOTE, id = new Uint8Array(), after = new Uint8Array() } = options;
  const length = 24 + id.length + quote.length;
  return new ByteWriter()
    .u32be(options.frame ?? length)
    .u16le(options.major ?? 1)
    .u16le(0)
    .u32le(options.type ?? 1)
    .u32le(options.size ?? length)
    .u32le(options.error ?? 0)
    .u32le(id.length)
    .u32le(options.quoteSize ?? quote.length)
    .bytes(id)
    .bytes(quote)
    .bytes(after)
    .finish();
}

/** A stream whose other end sends these bytes, in pieces. */
function service(bytes: Uint8Array | undefined, piece = 500): PassThrough {
  const stream = new PassThrough();
  // What we write goes to the service, not back to us.
  stream.write = (() => true) as never;
  const push = stream.push.bind(stream);
  for (let at = 0; bytes && at < bytes.length; at += piece) push(bytes.subarray(at, at + piece));
  return stream;
}

describe('the quote service of the host', () => {
  test('gets the request of the library of Intel', () => {
    const request = quoteRequest(REPORT);
    expect(request).toHaveLength(1048);
    expect(toHex(request.subarray(0, 28))).toBe(
      '0100000000000000180400000000000000040000000000000707'.padEnd(56, '07'),
    );
  });

  test.each([1, 3, 500, 5000])('gives a quote in pieces of %i bytes', async (piece) => {
    expect(await quoteFromService(service(response(), piece), REPORT, 1000)).toEqual(QUOTE);
  });

  test('may name the key id it chose', async () => {
    expect(await quoteFromService(service(response({ id: new Uint8Array(16) })), REPORT, 1000)).toEqual(
      QUOTE,
    );
  });

  test.each<[string, Uint8Array | undefined]>([
    ['silence', undefined],
    ['an error code', response({ error: 7 })],
    ['another version', response({ major: 2 })],
    ['another message', response({ type: 0 })],
    ['a size that lies', response({ size: 5 })],
    ['a quote size that lies', response({ quoteSize: 0xffff_ffff })],
    ['a short quote', response({ quote: new Uint8Array(1019) })],
    ['bytes after the quote', response({ quoteSize: 1050 })],
    ['bytes after the answer', response({ after: Uint8Array.of(0) })],
    ['a frame that is too long', response({ frame: 16_385 })],
    ['a frame that is cut off', response().subarray(0, 900)],
    ['nothing but a length', response({ frame: 0 }).subarray(0, 4)],
  ])('%s is refused', async (_, bytes) => {
    await expect(quoteFromService(service(bytes), REPORT, 50)).rejects.toMatchObject({ code: 'device' });
  });

  test('a connection that closes is refused at once', async () => {
    const stream = service(response().subarray(0, 100));
    setTimeout(() => stream.destroy(), 10);
    await expect(quoteFromService(stream, REPORT, 10_000)).rejects.toThrow('connection closed');
  });
});
