import { open } from 'node:fs/promises';
import { connect, type Socket } from 'node:net';
import { withTimeout } from '@dstack-cloud/runtime';
import { AttestationError } from '../../errors.ts';

/** The largest response of a TPM that this client takes. */
const MAX_RESPONSE = 4096;
const HEADER_BYTES = 10;

/** Carries one command at a time to a TPM and brings its response. */
export interface TpmTransport {
  /** @throws AttestationError `device` */
  exchange(command: Uint8Array): Promise<Uint8Array>;
  close(): Promise<void>;
}

/**
 * Opens a TPM: a character device (`/dev/tpmrm0`: one write, one read), or the data channel of a software TPM at
 * `unix:PATH` or `tcp:HOST:PORT`.
 * @throws AttestationError `device`
 */
export async function openTpmTransport(location: string, timeoutMs: number): Promise<TpmTransport> {
  if (location.startsWith('unix:')) return await socketTransport({ path: location.slice(5) }, timeoutMs);
  const tcp = /^tcp:(\[[0-9a-f:]+\]|[^:]+):(\d{1,5})$/.exec(location);
  if (tcp) return await socketTransport({ host: tcp[1]!, port: Number(tcp[2]) }, timeoutMs);
  return await deviceTransport(location, timeoutMs);
}

async function deviceTransport(path: string, timeoutMs: number): Promise<TpmTransport> {
  const handle = await open(path, 'r+').catch((cause: Error) => {
    throw new AttestationError('device', `Cannot open the TPM ${path}: ${cause.message}`, { cause });
  });
  return {
    async exchange(command) {
      const answer = (async () => {
        const { bytesWritten } = await handle.write(command, 0, command.length, null);
        if (bytesWritten !== command.length) throw new AttestationError('device', 'Short write to the TPM');
        const buffer = new Uint8Array(MAX_RESPONSE);
        const { bytesRead } = await handle.read(buffer, 0, buffer.length, null);
        return buffer.subarray(0, bytesRead);
      })();
      return await inTime(answer, path, timeoutMs);
    },
    close: () => handle.close(),
  };
}

async function socketTransport(
  address: { path: string } | { host: string; port: number },
  timeoutMs: number,
): Promise<TpmTransport> {
  const name = 'path' in address ? address.path : `${address.host}:${address.port}`;
  const socket = connect(address);
  const connected = new Promise<void>((resolve, reject) => {
    socket.once('connect', resolve);
    socket.once('error', (cause) =>
      reject(new AttestationError('device', `Cannot reach the TPM at ${name}: ${cause.message}`, { cause })),
    );
  });
  await inTime(connected, name, timeoutMs).catch((error: unknown) => {
    socket.destroy();
    throw error;
  });
  return {
    exchange: (command) => inTime(exchangeOnSocket(socket, command, name), name, timeoutMs),
    close: async () => {
      socket.destroy();
    },
  };
}

function exchangeOnSocket(socket: Socket, command: Uint8Array, name: string): Promise<Uint8Array> {
  return new Promise((resolve, reject) => {
    let received = new Uint8Array();
    const finish = (error?: AttestationError): void => {
      socket.off('data', receive);
      socket.off('close', closed);
      socket.off('error', closed);
      if (error) reject(error);
      else resolve(received);
    };
    const closed = (): void => finish(new AttestationError('device', `The TPM at ${name} hung up`));
    const receive = (chunk: Uint8Array): void => {
      received = new Uint8Array(Buffer.concat([received, chunk]));
      const size = received.length < 6 ? HEADER_BYTES : new DataView(received.buffer).getUint32(2);
      if (size < HEADER_BYTES || size > MAX_RESPONSE || received.length > size) {
        finish(new AttestationError('device', `The TPM at ${name} sent a response of impossible size`));
      } else if (received.length === size) finish();
    };
    socket.on('data', receive);
    socket.once('close', closed);
    socket.once('error', closed);
    if (socket.destroyed) closed();
    else socket.write(command);
  });
}

function inTime<T>(work: Promise<T>, name: string, timeoutMs: number): Promise<T> {
  const late = () => new AttestationError('device', `The TPM at ${name} gave no answer in ${timeoutMs} ms`);
  return withTimeout(work, timeoutMs, late);
}
