import { RpcError, type RpcErrorCode } from '@dstack-cloud/prpc';
import { errorChain } from '@dstack-cloud/runtime';
import { KmsError, type KmsErrorCode } from '../errors.ts';

/** One end of a channel between two processes: ordered, reliable until it closes, JSON values. */
export type Port = {
  send(message: unknown): void;
  onMessage(listener: (message: unknown) => void): void;
  onClose(listener: () => void): void;
};

/** What the other end offers, by name: one JSON value in, one out. */
export type Methods = { readonly [name: string]: (input: never) => unknown };

/** An implementation of what is offered. */
export type HandlersOf<M extends Methods> = {
  readonly [K in keyof M]: (input: Parameters<M[K]>[0]) => ReturnType<M[K]> | Promise<ReturnType<M[K]>>;
};

/** An error as it crosses the channel; anything that is not meant for callers only as text. */
export type WireError =
  | {
      readonly kind: 'rpc';
      readonly message: string;
      readonly code?: RpcErrorCode | undefined;
      readonly status: number;
    }
  | { readonly kind: 'kms'; readonly message: string; readonly code: KmsErrorCode }
  | { readonly kind: 'other'; readonly message: string };

type Message = {
  readonly call?: number;
  readonly tell?: true;
  readonly method?: string;
  readonly input?: unknown;
  readonly answer?: number;
  readonly value?: unknown;
  readonly error?: WireError;
};

type Waiting = {
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: Error) => void;
  readonly timer: NodeJS.Timeout | undefined;
};

/** Calls under way; more are refused, so that a process that no longer answers takes no memory. */
const MAX_CALLS = 4096;

/** Calls and answers over a port, in both directions. */
export class Link<Theirs extends Methods> {
  readonly #port: Port;
  readonly #waiting = new Map<number, Waiting>();
  #last = 0;
  #isClosed = false;

  constructor(port: Port, handlers: { readonly [name: string]: (input: never) => unknown }) {
    this.#port = port;
    port.onMessage((message) => this.#receive(message as Message, handlers));
    port.onClose(() => this.#close());
  }

  /**
   * Asks the other end.
   * @param timeoutMs longest time for the answer; none without
   * @throws KmsError `process-unreachable` when the channel is closed, overfull or no answer comes in time; else what
   *   the other end threw
   */
  call<K extends keyof Theirs & string>(
    method: K,
    input: Parameters<Theirs[K]>[0],
    timeoutMs?: number,
  ): Promise<Awaited<ReturnType<Theirs[K]>>> {
    if (this.#isClosed) return Promise.reject(unreachable('has ended'));
    if (this.#waiting.size >= MAX_CALLS) return Promise.reject(unreachable('does not keep up'));
    const call = ++this.#last;
    return new Promise((resolve, reject) => {
      const late = (): void => {
        this.#waiting.delete(call);
        reject(unreachable(`has not answered ${method} in time`));
      };
      const timer = timeoutMs === undefined ? undefined : setTimeout(late, timeoutMs);
      timer?.unref();
      this.#waiting.set(call, { resolve: resolve as (value: unknown) => void, reject, timer });
      this.#port.send({ call, method, input } satisfies Message);
    });
  }

  /** Tells the other end something that needs no answer. What is told first arrives first. */
  tell<K extends keyof Theirs & string>(method: K, input: Parameters<Theirs[K]>[0]): void {
    if (!this.#isClosed) this.#port.send({ tell: true, method, input } satisfies Message);
  }

  #receive(message: Message, handlers: Methods): void {
    if (message.answer !== undefined) {
      this.#settle(message);
      return;
    }
    const handler = handlers[message.method ?? ''] as ((input: unknown) => unknown) | undefined;
    if (message.tell) {
      handler?.(message.input);
      return;
    }
    if (message.call !== undefined) void this.#answer(message.call, message, handler);
  }

  async #answer(
    answer: number,
    { method, input }: Message,
    handler: ((input: unknown) => unknown) | undefined,
  ): Promise<void> {
    let reply: Message;
    try {
      if (handler === undefined) throw new Error(`No method ${method}`);
      reply = { answer, value: await handler(input) };
    } catch (error) {
      reply = { answer, error: toWire(error) };
    }
    if (!this.#isClosed) this.#port.send(reply);
  }

  #settle({ answer, value, error }: Message): void {
    const waiting = this.#waiting.get(answer!);
    if (waiting === undefined) return;
    this.#waiting.delete(answer!);
    clearTimeout(waiting.timer);
    if (error === undefined) waiting.resolve(value);
    else waiting.reject(fromWire(error));
  }

  #close(): void {
    this.#isClosed = true;
    for (const { reject, timer } of this.#waiting.values()) {
      clearTimeout(timer);
      reject(unreachable('has ended'));
    }
    this.#waiting.clear();
  }
}

export function toWire(error: unknown): WireError {
  if (error instanceof RpcError) {
    const { message, code, status } = error;
    return { kind: 'rpc', message, code, status };
  }
  if (error instanceof KmsError) return { kind: 'kms', message: error.message, code: error.code };
  return { kind: 'other', message: errorChain(error) };
}

function fromWire(error: WireError): Error {
  switch (error.kind) {
    case 'rpc': {
      const { code, status } = error;
      return new RpcError(error.message, { status, ...(code === undefined ? {} : { code }) });
    }
    case 'kms':
      return new KmsError(error.code, error.message);
    case 'other':
      return new Error(error.message);
  }
}

function unreachable(what: string): KmsError {
  return new KmsError('process-unreachable', `The other process of this service ${what}`);
}
