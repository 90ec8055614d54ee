import { DeviceFault } from '../device-files.ts';
import { nativeCalls } from './koffi.ts';

const LOCK_EX = 2;
const LOCK_NB = 4;
const EINTR = 4;
const EWOULDBLOCK = 11;
const POLL_MS = 10;
const TIMEOUT_MS = 30_000;

type Flock = (fd: number, operation: number) => number;

let bound: Flock | undefined;

/**
 * Takes the exclusive flock of an open file; closing the file releases it.
 * @returns false where no native call is to be had, and nothing is locked
 * @throws DeviceFault `EBUSY` when another process holds it for 30 seconds
 */
export async function flock(fd: number): Promise<boolean> {
  const native = await nativeCalls();
  if (!native) return false;
  bound ??= native.libc.func('int flock(int fd, int operation)') as Flock;
  const deadline = Date.now() + TIMEOUT_MS;
  for (;;) {
    if (bound(fd, LOCK_EX | LOCK_NB) === 0) return true;
    const errno = native.koffi.errno();
    if (errno !== EWOULDBLOCK && errno !== EINTR) return false;
    if (Date.now() > deadline) throw new DeviceFault('EBUSY', 'Another process holds the lock');
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}
