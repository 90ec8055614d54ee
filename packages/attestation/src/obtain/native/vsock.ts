import { randomUUID } from 'node:crypto';
import { createServer, Socket } from 'node:net';
import { ByteWriter } from '@dstack-cloud/encoding';
import { AttestationError } from '../../errors.ts';
import { requireNativeCalls } from './koffi.ts';

const AF_VSOCK = 40;
const SOCK_STREAM = 1;
const SOCK_CLOEXEC = 0x80000;
/** The host, as a guest sees it. */
export const HOST_CID = 2;

interface Pipe {
  open(fd: number): number;
}

interface SocketCalls {
  readonly socket: (family: number, type: number, protocol: number) => number;
  readonly connect: {
    async(
      fd: number,
      address: Uint8Array,
      length: number,
      done: (error: Error | null, result: number) => void,
    ): void;
  };
  readonly close: (fd: number) => number;
  readonly errno: () => number;
}

let bound: SocketCalls | undefined;

/** Connects an AF_VSOCK stream; connect(2) waits on a worker thread. @throws AttestationError `device` */
export async function connectVsock(cid: number, port: number): Promise<Socket> {
  bound ??= await bind();
  const calls = bound;
  const fd = calls.socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) {
    throw new AttestationError('device', 'This system has no vsock', { found: `errno ${calls.errno()}` });
  }
  const result = await new Promise<number>((resolve) => {
    const address = sockaddr(cid, port);
    calls.connect.async(fd, address, address.length, (error, value) => resolve(error ? -1 : value));
  });
  if (result < 0) {
    calls.close(fd);
    throw new AttestationError('device', `No vsock connection to CID ${cid}, port ${port}`);
  }
  return await adoptSocket(fd);
}

/** struct sockaddr_vm: family, reserved, port, cid, 4 zero bytes, little-endian. */
function sockaddr(cid: number, port: number): Uint8Array {
  return new ByteWriter().u16le(AF_VSOCK).u16le(0).u32le(port).u32le(cid).u32le(0).finish();
}

async function bind(): Promise<SocketCalls> {
  const { koffi, libc } = await requireNativeCalls('vsock');
  return {
    socket: libc.func('int socket(int family, int type, int protocol)') as SocketCalls['socket'],
    connect: libc.func(
      'int connect(int fd, const uint8_t *address, unsigned int length)',
    ) as unknown as SocketCalls['connect'],
    close: libc.func('int close(int fd)') as SocketCalls['close'],
    errno: () => koffi.errno(),
  };
}

/**
 * A stream over an open socket. libuv refuses descriptors of families it does not know, but its pipe handle takes them
 * (chapter 80 section 7).
 */
export async function adoptSocket(fd: number): Promise<Socket> {
  const server = createServer();
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    // An abstract name: nothing of it is left in any directory.
    server.listen(`\0dstack-pipe-${randomUUID()}`, resolve);
  });
  const { constructor: PipeHandle } = (
    server as unknown as { _handle: { constructor: new (type: number) => Pipe } }
  )._handle;
  const pipe = new PipeHandle(0);
  server.close();
  const failure = pipe.open(fd);
  if (failure !== 0) throw new AttestationError('device', 'The vsock descriptor was refused');
  return new Socket({ handle: pipe } as object);
}
