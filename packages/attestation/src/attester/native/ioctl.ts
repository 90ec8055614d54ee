import { type FileHandle, open } from 'node:fs/promises';
import { AttestationError } from '../../errors.ts';
import { requireNativeCalls } from './koffi.ts';

/** Synchronous: these calls take microseconds, and errno is that of the calling thread. */
type Ioctl = (fd: number, request: number, argument: Uint8Array) => number;

let bound: Ioctl | undefined;

/** Calls an ioctl on a device file. @throws AttestationError `device`, with the error's number in `found` */
export async function deviceIoctl(device: string, request: number, argument: Uint8Array): Promise<void> {
  const { koffi, libc } = await requireNativeCalls(`An ioctl on ${device}`);
  bound ??= libc.func('int ioctl(int fd, unsigned long request, _Inout_ uint8_t *argument)') as Ioctl;
  const call = bound;
  let handle: FileHandle;
  try {
    handle = await open(device, 'r+');
  } catch (cause) {
    throw new AttestationError('device', `Cannot open ${device}: ${(cause as Error).message}`, { cause });
  }
  try {
    const result = call(handle.fd, request, argument);
    if (result < 0) {
      throw new AttestationError('device', `${device} refused the call`, { found: `errno ${koffi.errno()}` });
    }
  } finally {
    await handle.close();
  }
}
