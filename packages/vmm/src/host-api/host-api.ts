import { createServer, type Server } from 'node:http';
import {
  configureServer,
  createPrpcHandler,
  HostApi,
  implement,
  RpcError,
  type ServiceImplementation,
} from '@dstack-cloud/prpc';
import { askKeyProvider, type KeyProviderAddress, LOCAL_KEY_PROVIDER } from './key-provider.ts';

/**
 * A notification with a longer payload is dropped, and its sender not told (docs/protocol/host-shared.md section 6).
 */
export const MAX_NOTIFY_PAYLOAD = 4096;
const MAX_EVENT_BYTES = 128;
const MAX_BODY_BYTES = 64 * 1024;

export interface Notification {
  readonly event: string;
  readonly payload: string;
}

/** Of one machine, whose programs have a few each. */
const MAX_CONNECTIONS = 32;

/**
 * The host side of the machine's door to its host, service `host_api.HostApi` at `/api`, on a Unix socket that only
 * this machine is told of. What comes in is shown to the operator and never trusted.
 */
export async function startHostApi(
  socketPath: string,
  onNotify: (notification: Notification) => void,
  keyProvider: KeyProviderAddress = LOCAL_KEY_PROVIDER,
): Promise<Server> {
  const handler = createPrpcHandler<undefined>({
    mounts: [
      {
        path: '/api',
        trim: 'HostApi.',
        services: [hostService(onNotify, keyProvider)],
        limits: { Info: MAX_BODY_BYTES, Notify: MAX_BODY_BYTES, GetSealingKey: MAX_BODY_BYTES },
      },
    ],
    headers: { Server: 'dstack VMM' },
    maxBufferedBytes: MAX_CONNECTIONS * MAX_BODY_BYTES,
  });
  const server = configureServer(createServer(handler), { max: MAX_CONNECTIONS });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    const mask = process.umask(0o177);
    try {
      server.listen(socketPath, resolve);
    } finally {
      process.umask(mask);
    }
  });
  return server;
}

function hostService(
  onNotify: (notification: Notification) => void,
  keyProvider: KeyProviderAddress,
): ServiceImplementation<undefined> {
  let asking = false;
  return implement(HostApi)<undefined>({
    Info: () => ({ name: 'dstack VMM', version: '0.1.0' }),
    Notify: ({ event, payload }) => {
      if (event === '' || Buffer.byteLength(event) > MAX_EVENT_BYTES)
        throw new RpcError(`Notify needs an event of 1 to ${MAX_EVENT_BYTES} bytes`);
      if (Buffer.byteLength(payload) <= MAX_NOTIFY_PAYLOAD) onNotify({ event, payload });
    },
    GetSealingKey: async ({ quote }) => {
      // A machine asks once a boot.
      if (asking) throw new RpcError('Another request for a sealing key is being answered');
      asking = true;
      try {
        return await askKeyProvider(keyProvider, quote);
      } finally {
        asking = false;
      }
    },
  });
}
