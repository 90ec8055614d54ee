import { type FileHandle, open } from 'node:fs/promises';
import { connect } from 'node:net';
import { ByteWriter } from '@dstack-cloud/encoding';
import { AttestationError } from '../../errors.ts';
import { requireNativeCalls } from '../native/koffi.ts';

/** Limits of the driver (docs/protocol/evidence.md section 12.5). */
const MAX_REQUEST = 0x1000;
const MAX_RESPONSE = 0x3000;
/** _IOWR(0x0A, 0, 32) */
const NSM_IOCTL = 0xc0200a00;
const EMSGSIZE = 90;
const UNIX = 'unix:';

/** Carries one CBOR request to a Nitro security module and brings its CBOR response. */
export interface NsmTransport {
  /** @throws AttestationError `device` */
  exchange(request: Uint8Array): Promise<Uint8Array>;
}

/**
 * The security module at `/dev/nsm`, or a stand-in at `unix:PATH` that takes the same CBOR, each message after its
 * length (u32 BE).
 */
export function nsmTransport(location: string, timeoutMs: number): NsmTransport {
  const exchange = location.startsWith(UNIX)
    ? (request: Uint8Array) => exchangeOnSocket(location.slice(UNIX.length), request, timeoutMs)
    : (request: Uint8Array) => exchangeByIoctl(location, request);
  return {
    async exchange(request) {
      if (request.length <= MAX_REQUEST) return await exchange(request);
      throw new AttestationError('too-large', `NSM request of ${request.length} bytes`);
    },
  };
}

type NsmCall = (fd: number, request: number, message: NsmMessage) => number;

/** Two iovecs; the driver changes the second length. */
interface NsmMessage {
  request: Uint8Array;
  request_length: number | bigint;
  response: Uint8Array;
  response_length: number | bigint;
}

let bound: { call: NsmCall; errno: () => number } | undefined;

async function exchangeByIoctl(device: string, request: Uint8Array): Promise<Uint8Array> {
  bound ??= await bind();
  let handle: FileHandle;
  try {
    handle = await open(device, 'r+');
  } catch (cause) {
    throw new AttestationError('device', `Cannot open ${device}: ${(cause as Error).message}`, { cause });
  }
  try {
    const response = new Uint8Array(MAX_RESPONSE);
    const message = {
      request,
      request_length: request.length,
      response,
      response_length: response.length,
    };
    if (bound.call(handle.fd, NSM_IOCTL, message) < 0) {
      const errno = bound.errno();
      const reason = errno === EMSGSIZE ? 'the request is too large' : `errno ${errno}`;
      throw new AttestationError('device', `${device} refused the request: ${reason}`);
    }
    const length = Number(message.response_length);
    if (length > MAX_RESPONSE) throw new AttestationError('device', `${device} gave an impossible length`);
    return response.subarray(0, length);
  } finally {
    await handle.close();
  }
}

async function bind(): Promise<{ call: NsmCall; errno: () => number }> {
  const { koffi, libc } = await requireNativeCalls('The Nitro security module');
  koffi.struct('DstackNsmMessage', {
    request: 'uint8_t *',
    request_length: 'uint64_t',
    response: 'uint8_t *',
    response_length: 'uint64_t',
  });
  const call = libc.func('int ioctl(int fd, unsigned long request, _Inout_ DstackNsmMessage *message)');
  return { call: call as NsmCall, errno: () => koffi.errno() };
}

function exchangeOnSocket(path: string, request: Uint8Array, timeoutMs: number): Promise<Uint8Array> {
  return new Promise((resolve, reject) => {
    const socket = connect({ path });
    let received: Uint8Array = new Uint8Array();
    const fail = (message: string, cause?: unknown): void => {
      clearTimeout(timer);
      socket.destroy();
      reject(new AttestationError('device', `NSM at ${path}: ${message}`, { cause }));
    };
    const timer = setTimeout(() => fail(`no answer in ${timeoutMs} ms`), timeoutMs);
    socket.on('error', (cause) => fail(cause.message, cause));
    socket.on('close', () => fail('hung up'));
    socket.on('data', (chunk) => {
      received = new Uint8Array(Buffer.concat([received, chunk as Buffer]));
      const length = received.length < 4 ? 0 : new DataView(received.buffer).getUint32(0);
      if (Math.max(length, received.length - 4) > MAX_RESPONSE) fail('the answer is too long');
      else if (received.length >= 4 && received.length > length + 4) fail('bytes follow the answer');
      else if (received.length >= 4 && received.length === length + 4) {
        clearTimeout(timer);
        socket.destroy();
        resolve(received.subarray(4));
      }
    });
    socket.write(new ByteWriter().u32be(request.length).bytes(request).finish());
  });
}
