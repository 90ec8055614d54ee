import type { Socket } from 'node:net';
import { fromHex, toHex } from '@dstack-cloud/encoding';
import { DeviceFault, type DeviceFiles, deviceFault } from '../device-files.ts';

/** Longest answer line, bytes. */
const MAX_LINE = 64 * 1024;

interface Pending {
  readonly resolve: (line: string) => void;
  readonly reject: (error: DeviceFault) => void;
}

/**
 * The same files behind a stream socket, one JSON object a line each way: a TEE that is simulated, or lives in another
 * process. Requests go one after another; a connection that fails fails what waits on it, and the next one is new.
 */
export class EndpointFiles implements DeviceFiles {
  readonly #path: string;
  readonly #open: () => Promise<Socket>;
  readonly #timeoutMs: number;
  #socket: Socket | undefined;
  #pending: Pending | undefined;
  #received = '';
  #queue: Promise<unknown> = Promise.resolve();

  /** @param path what errors call the other side; `open` makes a connection to it */
  constructor(path: string, open: () => Promise<Socket>, timeoutMs: number) {
    this.#path = path;
    this.#open = open;
    this.#timeoutMs = timeoutMs;
  }

  async read(file: string, max: number): Promise<Uint8Array> {
    const data = await this.#call({ op: 'read', file });
    if (data === undefined) throw new DeviceFault('EIO', `The endpoint gave no data for ${file}`);
    if (data.length > max) throw new DeviceFault('EFBIG', `${file} holds more than ${max} bytes`);
    return data;
  }

  async write(file: string, data: Uint8Array): Promise<void> {
    await this.#call({ op: 'write', file, data: toHex(data) });
  }

  /** Each connection is an entry of its own, so nobody else uses it. */
  async exclusive<T>(body: () => Promise<T>): Promise<T> {
    return await body();
  }

  async close(): Promise<void> {
    this.#drop(new DeviceFault('EIO', 'The device is closed'));
  }

  #call(request: object): Promise<Uint8Array | undefined> {
    const call = this.#queue.then(async () => parseReply(await this.#exchange(JSON.stringify(request))));
    this.#queue = call.catch(() => undefined);
    return call;
  }

  async #exchange(line: string): Promise<string> {
    const socket = await this.#connection();
    return await new Promise((resolve, reject) => {
      socket.ref();
      const timer = setTimeout(() => {
        this.#drop(new DeviceFault('ETIMEDOUT', `No answer from ${this.#path} in ${this.#timeoutMs} ms`));
      }, this.#timeoutMs);
      const settle = (): void => {
        clearTimeout(timer);
        this.#pending = undefined;
        // An idle device does not keep a program running.
        socket.unref();
      };
      this.#pending = {
        resolve: (answer) => {
          settle();
          resolve(answer);
        },
        reject: (error) => {
          settle();
          reject(error);
        },
      };
      socket.write(`${line}\n`);
    });
  }

  async #connection(): Promise<Socket> {
    if (this.#socket) return this.#socket;
    const socket = await this.#open().catch((cause: unknown) => {
      throw deviceFault(cause, this.#path);
    });
    this.#socket = socket;
    this.#received = '';
    socket.setEncoding('utf8');
    socket.on('data', (chunk) => this.#receive(socket, String(chunk)));
    socket.on('error', (cause) => this.#lost(socket, deviceFault(cause, this.#path)));
    socket.on('close', () => this.#lost(socket, new DeviceFault('EPIPE', `${this.#path} hung up`)));
    return socket;
  }

  #receive(socket: Socket, chunk: string): void {
    if (socket !== this.#socket) return;
    this.#received += chunk;
    const end = this.#received.indexOf('\n');
    const tooLong = end > MAX_LINE || (end < 0 && this.#received.length > MAX_LINE);
    if (tooLong || (end >= 0 && end !== this.#received.length - 1) || !this.#pending) {
      this.#drop(new DeviceFault('EPROTO', `${this.#path} sent what is no answer`));
    } else if (end >= 0) {
      const line = this.#received.slice(0, end);
      this.#received = '';
      this.#pending.resolve(line);
    }
  }

  #lost(socket: Socket, error: DeviceFault): void {
    if (socket === this.#socket) this.#drop(error);
  }

  #drop(error: DeviceFault): void {
    this.#socket?.destroy();
    this.#socket = undefined;
    this.#pending?.reject(error);
  }
}

function parseReply(line: string): Uint8Array | undefined {
  let reply: unknown;
  try {
    reply = JSON.parse(line);
  } catch (cause) {
    throw new DeviceFault('EPROTO', 'The endpoint sent no JSON', { cause });
  }
  const { ok, data, errno } = (reply ?? {}) as Record<string, unknown>;
  if (ok !== true) {
    throw new DeviceFault(typeof errno === 'string' ? errno : 'EPROTO', `The endpoint answered ${errno}`);
  }
  if (data === undefined) return undefined;
  try {
    return fromHex(String(data));
  } catch (cause) {
    throw new DeviceFault('EPROTO', 'The endpoint sent no hex', { cause });
  }
}
