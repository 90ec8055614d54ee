import { connect, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { VmmError } from '../errors.ts';
import { lineSplitter } from '../logs/log-file.ts';

const CONNECT_TIMEOUT_MS = 20_000;
const COMMAND_TIMEOUT_MS = 20_000;
const POLL_MS = 30;

/** An event of QEMU, such as `SHUTDOWN`. */
export interface QmpEvent {
  readonly name: string;
  readonly data: Readonly<Record<string, unknown>>;
}

interface Waiting {
  resolve(value: unknown): void;
  reject(error: Error): void;
}

/** A connection to QEMU's control socket (QEMU Machine Protocol). */
export class QmpClient {
  readonly #socket: Socket;
  readonly #onEvent: (event: QmpEvent) => void;
  readonly #waiting = new Map<number, Waiting>();
  #next = 1;

  private constructor(socket: Socket, onEvent: (event: QmpEvent) => void) {
    this.#socket = socket;
    this.#onEvent = onEvent;
    const splitter = lineSplitter((line) => this.#take(line));
    socket.on('data', (chunk) => splitter.write(chunk as Uint8Array));
    socket.on('error', () => undefined);
    socket.on('close', () => this.#end());
  }

  /** Connects once QEMU listens, for as long as `isRunning` says that it may. @throws VmmError `start_failed`, `timeout` */
  static async open(
    path: string,
    onEvent: (event: QmpEvent) => void,
    isRunning: () => boolean,
  ): Promise<QmpClient> {
    const deadline = performance.now() + CONNECT_TIMEOUT_MS;
    for (;;) {
      const socket = await tryConnect(path);
      if (socket !== undefined) {
        const client = new QmpClient(socket, onEvent);
        await client.command('qmp_capabilities');
        return client;
      }
      if (!isRunning()) throw new VmmError('start_failed', 'QEMU ended before it could be controlled');
      if (performance.now() > deadline)
        throw new VmmError('timeout', 'QEMU does not open its control socket');
      await sleep(POLL_MS);
    }
  }

  /** Runs one command; resolves with what it returns. @throws VmmError `timeout`, `not_running`, `bad_option` */
  async command(execute: string, args?: object): Promise<unknown> {
    const id = this.#next++;
    const answer = new Promise<unknown>((resolve, reject) => {
      if (this.#socket.destroyed) return reject(gone());
      this.#waiting.set(id, { resolve, reject });
      this.#socket.write(`${JSON.stringify({ execute, ...(args && { arguments: args }), id })}\n`);
    });
    const timer = setTimeout(
      () => this.#settle(id)?.reject(new VmmError('timeout', `QEMU does not answer ${execute}`)),
      COMMAND_TIMEOUT_MS,
    );
    return await answer.finally(() => clearTimeout(timer));
  }

  close(): void {
    this.#socket.destroy();
  }

  #take(line: string): void {
    let message: Record<string, unknown>;
    try {
      message = JSON.parse(line) as Record<string, unknown>;
    } catch {
      return;
    }
    if (typeof message['event'] === 'string')
      this.#onEvent({ name: message['event'], data: (message['data'] ?? {}) as QmpEvent['data'] });
    const waiting = this.#settle(message['id']);
    if (waiting === undefined) return;
    const error = message['error'] as { desc?: string } | undefined;
    if (error === undefined) waiting.resolve(message['return']);
    else waiting.reject(new VmmError('bad_option', `QEMU refuses: ${error.desc ?? 'no reason'}`));
  }

  #settle(id: unknown): Waiting | undefined {
    const waiting = this.#waiting.get(id as number);
    this.#waiting.delete(id as number);
    return waiting;
  }

  #end(): void {
    for (const { reject } of this.#waiting.values()) reject(gone());
    this.#waiting.clear();
  }
}

function gone(): VmmError {
  return new VmmError('not_running', 'QEMU has ended');
}

async function tryConnect(path: string): Promise<Socket | undefined> {
  return await new Promise((resolve) => {
    const socket = connect({ path });
    socket.once('connect', () => resolve(socket));
    socket.once('error', () => resolve(undefined));
  });
}
