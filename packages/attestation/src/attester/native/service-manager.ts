import { concatBytes, utf8 } from '@dstack-cloud/encoding';
import { AttestationError } from '../../errors.ts';
import { requireNativeCalls } from './koffi.ts';

const AF_UNIX = 1;
const SOCK_DGRAM = 2;
const SOCK_CLOEXEC = 0x80000;
const MSG_NOSIGNAL = 0x4000;
/** Longest sun_path of struct sockaddr_un. */
const MAX_PATH = 107;

interface DatagramCalls {
  readonly socket: (family: number, type: number, protocol: number) => number;
  readonly sendto: (
    fd: number,
    bytes: Uint8Array,
    length: number,
    flags: number,
    address: Uint8Array,
    size: number,
  ) => number;
  readonly close: (fd: number) => number;
}

let bound: DatagramCalls | undefined;

/**
 * Tells the service manager about this program (sd_notify(3)): one datagram to the socket that NOTIFY_SOCKET names. Node
 * has no datagrams over Unix sockets.
 *
 * @returns false where no service manager wants to know
 * @throws AttestationError `device`
 */
export async function notifyServiceManager(
  state: string,
  path: string | undefined = process.env['NOTIFY_SOCKET'],
): Promise<boolean> {
  if (path === undefined || path === '') return false;
  const name = utf8(path);
  if (name.length > MAX_PATH || !/^[/@]/.test(path))
    throw new AttestationError('device', 'NOTIFY_SOCKET names no socket', { found: path });
  // An abstract name is written with @ for its zero byte.
  if (path.startsWith('@')) name[0] = 0;
  const address = concatBytes(Uint8Array.of(AF_UNIX, 0), name);
  const message = utf8(state);
  const { koffi, libc } = await requireNativeCalls('The service manager');
  bound ??= {
    socket: libc.func('int socket(int family, int type, int protocol)') as DatagramCalls['socket'],
    sendto: libc.func(
      'int sendto(int fd, const uint8_t *bytes, unsigned long length, int flags, const uint8_t *address, unsigned int size)',
    ) as DatagramCalls['sendto'],
    close: libc.func('int close(int fd)') as DatagramCalls['close'],
  };
  const { socket, sendto, close } = bound;
  const fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  try {
    const sent = sendto(fd, message, message.length, MSG_NOSIGNAL, address, address.length);
    if (sent !== message.length)
      throw new AttestationError('device', 'The service manager was not told', {
        found: `errno ${koffi.errno()}`,
      });
    return true;
  } finally {
    if (fd >= 0) close(fd);
  }
}
