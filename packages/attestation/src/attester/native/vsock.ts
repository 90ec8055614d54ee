import { randomUUID } from 'node:crypto';
import { createServer, Socket } from 'node:net';
import { ByteWriter } from '@dstack-cloud/encoding';
import { AttestationError } from '../../errors.ts';
import { requireNativeCalls } from './koffi.ts';

const AF_VSOCK = 40;
const SOCK_STREAM = 1;
const SOCK_CLOEXEC = 0x80000;
const ADDRESS_BYTES = 16;
/** Any context id of this machine. */
const CID_ANY = 0xffff_ffff;
const BACKLOG = 64;
/** The host, as a guest sees it. */
export const HOST_CID = 2;

interface Pipe {
  readonly fd: number;
  open(fd: number): number;
  listen(backlog: number): number;
  close(done?: () => void): void;
  onconnection: ((status: number, client: Pipe) => void) | undefined;
}

/** The kinds of pipe handles that libuv tells apart. */
const STREAM = 0;
const SERVER = 1;

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
  readonly bind: (fd: number, address: Uint8Array, length: number) => number;
  readonly getpeername: (fd: number, address: Uint8Array, length: Uint8Array) => number;
  readonly close: (fd: number) => number;
  readonly errno: () => number;
}

let bound: SocketCalls | undefined;

/** How a stream of ours treats the end of what the other side says. */
export interface StreamOptions {
  /** Keep the stream open to answer; default false, as with Node's own connections: it ends and closes. */
  readonly allowHalfOpen?: boolean;
}

/** Connects an AF_VSOCK stream; connect(2) waits on a worker thread. @throws AttestationError `device` */
export async function connectVsock(cid: number, port: number, options: StreamOptions = {}): Promise<Socket> {
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
  return await adoptSocket(fd, options);
}

/** A port of this machine that other machines can connect to. */
export interface VsockListener {
  close(): Promise<void>;
}

/**
 * Serves an AF_VSOCK port. With `peerCid` to that one other machine: streams of all others, this machine's own programs
 * included, are ended at once.
 *
 * @throws AttestationError `device`
 */
export async function listenVsock(
  port: number,
  peerCid: number | undefined,
  onStream: (stream: Socket, cid: number | undefined) => void,
): Promise<VsockListener> {
  bound ??= await bind();
  const calls = bound;
  const fd = calls.socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const refused = (call: string): AttestationError =>
    new AttestationError('device', `Cannot listen on vsock port ${port}: ${call} failed`, {
      found: `errno ${calls.errno()}`,
    });
  if (fd < 0) throw refused('socket');
  const address = sockaddr(CID_ANY, port);
  if (calls.bind(fd, address, address.length) < 0) {
    const error = refused('bind');
    calls.close(fd);
    throw error;
  }
  let cid: number | undefined;
  const accepts = (client: number): boolean => {
    cid = peerCidOf(calls, client);
    return cid !== undefined && (peerCid === undefined || cid === peerCid);
  };
  return await serveStreams(fd, accepts, (stream) => onStream(stream, cid));
}

/** Accepts streams on a bound socket of any family. They are half open: who has said all may still be answered. */
export async function serveStreams(
  fd: number,
  accepts: (fd: number) => boolean,
  onStream: (stream: Socket) => void,
): Promise<VsockListener> {
  const server = await pipeOver(fd, SERVER);
  server.onconnection = (status, client) => {
    if (status !== 0) return;
    if (accepts(client.fd)) onStream(socketOver(client, { allowHalfOpen: true }));
    else client.close();
  };
  if (server.listen(BACKLOG) !== 0) {
    server.close();
    throw new AttestationError('device', 'Cannot listen on the socket');
  }
  return { close: () => new Promise((resolve) => server.close(() => resolve())) };
}

/** Context id of the other side; undefined for what is no vsock stream. */
function peerCidOf(calls: SocketCalls, fd: number): number | undefined {
  const address = new Uint8Array(ADDRESS_BYTES);
  const length = new Uint8Array(Uint32Array.of(ADDRESS_BYTES).buffer);
  if (calls.getpeername(fd, address, length) < 0) return undefined;
  const view = new DataView(address.buffer);
  return view.getUint16(0, true) === AF_VSOCK ? view.getUint32(8, true) : undefined;
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
    bind: libc.func('int bind(int fd, const uint8_t *address, unsigned int length)') as SocketCalls['bind'],
    getpeername: libc.func(
      'int getpeername(int fd, _Inout_ uint8_t *address, _Inout_ uint8_t *length)',
    ) as SocketCalls['getpeername'],
    close: libc.func('int close(int fd)') as SocketCalls['close'],
    errno: () => koffi.errno(),
  };
}

/**
 * A stream over an open socket. libuv refuses descriptors of families it does not know, but its pipe handle takes them.
 */
export async function adoptSocket(fd: number, options: StreamOptions = {}): Promise<Socket> {
  return socketOver(await pipeOver(fd, STREAM), options);
}

function socketOver(handle: Pipe, { allowHalfOpen = false }: StreamOptions): Socket {
  return new Socket({ handle, allowHalfOpen } as object);
}

async function pipeOver(fd: number, kind: number): Promise<Pipe> {
  const server = createServer();
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    // An abstract name: nothing of it is left in any directory.
    server.listen(`\0dstack-pipe-${randomUUID()}`, resolve);
  });
  const { constructor: PipeHandle } = (
    server as unknown as { _handle: { constructor: new (type?: number) => Pipe } }
  )._handle;
  const pipe = new PipeHandle(kind);
  server.close();
  const failure = pipe.open(fd);
  if (failure !== 0) throw new AttestationError('device', 'The socket descriptor was refused');
  return pipe;
}
