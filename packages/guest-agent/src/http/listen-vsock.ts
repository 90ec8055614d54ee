import { createServer, type RequestListener } from 'node:http';
import { HOST_CID, listenVsock } from '@dstack-cloud/attestation/attester';
import { configureServer } from '@dstack-cloud/prpc';
import { GuestError } from '../errors.ts';

/** A listener that is no server of Node's own. */
export interface HostListener {
  close(): void;
}

/** Serves HTTP on a vsock port to the machine's host alone: no program of this machine can connect. */
export async function listenToHost(port: number, handler: RequestListener): Promise<HostListener> {
  const server = configureServer(createServer(handler));
  try {
    const listener = await listenVsock(port, HOST_CID, (stream) => server.emit('connection', stream));
    return {
      close: () => {
        void listener.close();
        server.closeAllConnections();
      },
    };
  } catch (cause) {
    throw new GuestError('listen-failed', `Cannot listen on vsock port ${port}`, { cause });
  }
}
