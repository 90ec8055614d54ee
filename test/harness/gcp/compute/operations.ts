import { setTimeout as sleep } from 'node:timers/promises';
import { ApiError, notFound } from '../api-error.ts';

interface Operation {
  readonly name: string;
  readonly type: string;
  readonly target: string;
  readonly readyAt: number;
  /** What it does when its time has come; throws what it fails with. */
  finish: (() => void | Promise<void>) | undefined;
  error: { readonly code: string; readonly message: string } | undefined;
}

/** A failure of an operation, as against one of the request that asked for it. */
export class OperationError extends Error {
  readonly code: string;

  constructor(code: string, message: string) {
    super(message);
    this.code = code;
  }
}

/** What Google's APIs begin and end later. */
export class Operations {
  /** How long each takes. */
  milliseconds = 2;
  readonly #all = new Map<string, Operation>();
  readonly #byRequest = new Map<string, string>();
  #settling: Promise<void> = Promise.resolve();

  /** The operation that the same request asked for before. */
  repeated(requestId: string | null): object | undefined {
    const name = this.#byRequest.get(requestId ?? '');
    return name === undefined ? undefined : this.show(name);
  }

  begin(requestId: string | null, type: string, target: string, finish: () => void | Promise<void>): object {
    const name = `operation-${this.#all.size + 1}`;
    const readyAt = performance.now() + this.milliseconds;
    this.#all.set(name, { name, type, target, readyAt, finish, error: undefined });
    if (requestId !== null) this.#byRequest.set(requestId, name);
    return this.show(name);
  }

  show(name: string): object {
    const found = this.#all.get(name);
    if (found === undefined) throw notFound(name);
    const { type, target, finish, error } = found;
    return {
      ...{ kind: 'compute#operation', name, operationType: type, targetLink: target },
      ...{ status: finish === undefined ? 'DONE' : 'RUNNING', progress: finish === undefined ? 100 : 0 },
      ...(error === undefined ? {} : { error: { errors: [error] }, httpErrorStatusCode: 400 }),
    };
  }

  async wait(name: string): Promise<object> {
    const found = this.#all.get(name);
    if (found === undefined) throw notFound(name);
    const rest = found.readyAt - performance.now();
    if (rest > 0) await sleep(rest);
    await this.settle();
    return this.show(name);
  }

  /** Ends what has had its time, in the order in which it began. */
  async settle(): Promise<void> {
    this.#settling = this.#settling.then(() => this.#settle());
    await this.#settling;
  }

  async #settle(): Promise<void> {
    for (const one of this.#all.values()) {
      const { finish } = one;
      if (finish === undefined || one.readyAt > performance.now()) continue;
      try {
        await finish();
      } catch (error) {
        if (error instanceof OperationError) one.error = { code: error.code, message: error.message };
        else if (error instanceof ApiError) one.error = { code: error.reason, message: error.message };
        else throw error;
      }
      one.finish = undefined;
    }
  }
}
