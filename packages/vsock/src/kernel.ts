import { connectVsock, listenVsock } from '@dstack-cloud/attestation/attester';
import { VsockError } from './errors.ts';
import type { Vsock } from './vsock.ts';

/** AF_VSOCK of the kernel (vsock(7)). */
export const kernelVsock: Vsock = {
  connect: (cid, port) => naming('Cannot connect', connectVsock(cid, port, { allowHalfOpen: true })),
  listen: (port, onStream) => naming('Cannot listen', listenVsock(port, undefined, onStream)),
};

async function naming<T>(what: string, work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (cause) {
    throw new VsockError('unavailable', `${what} through the kernel's vsock: ${(cause as Error).message}`, {
      cause,
    });
  }
}
