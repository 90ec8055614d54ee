import { PolicyError } from '../../errors.ts';
import type { RpcAnswer, RpcCall } from './rpc-answer.ts';

/** Nodes bound the calls of a batch and the bytes of a request; these are below the bounds of the common ones. */
const MAX_CALLS = 100;
const MAX_BYTES = 512 * 1024;

type Part = {
  readonly calls: readonly RpcCall[];
  readonly bytes: number;
  readonly resolve: (answers: RpcAnswer[]) => void;
  readonly reject: (error: unknown) => void;
};

/**
 * Gathers the calls of all who ask in one tick of the event loop, and sends them in as few exchanges as fit. When the
 * answer to several is malformed or too long, each is sent by itself: only whose answer it was gets nothing.
 */
export class RpcQueue {
  readonly #send: (calls: readonly RpcCall[]) => Promise<RpcAnswer[]>;
  #parts: Part[] = [];

  constructor(send: (calls: readonly RpcCall[]) => Promise<RpcAnswer[]>) {
    this.#send = send;
  }

  /** @returns one answer for each call, in order */
  async gather(calls: readonly RpcCall[]): Promise<RpcAnswer[]> {
    const parts = split(calls).map((some) => this.#add(some));
    return (await Promise.all(parts)).flat();
  }

  #add({ calls, bytes }: Sized): Promise<RpcAnswer[]> {
    return new Promise((resolve, reject) => {
      if (this.#parts.length === 0) setImmediate(() => this.#flush());
      this.#parts.push({ calls, bytes, resolve, reject });
    });
  }

  #flush(): void {
    const waiting = this.#parts;
    this.#parts = [];
    let [group, count, bytes]: [Part[], number, number] = [[], 0, 0];
    for (const part of waiting) {
      if (group.length > 0 && (count + part.calls.length > MAX_CALLS || bytes + part.bytes > MAX_BYTES)) {
        void this.#exchange(group);
        [group, count, bytes] = [[], 0, 0];
      }
      group.push(part);
      count += part.calls.length;
      bytes += part.bytes;
    }
    void this.#exchange(group);
  }

  async #exchange(group: readonly Part[]): Promise<void> {
    try {
      const answers = await this.#send(group.flatMap(({ calls }) => calls));
      let at = 0;
      for (const { calls, resolve } of group) {
        resolve(answers.slice(at, at + calls.length));
        at += calls.length;
      }
    } catch (error) {
      if (group.length > 1 && error instanceof PolicyError && error.code === 'backend-answer') {
        await Promise.all(group.map((part) => this.#exchange([part])));
      } else {
        for (const { reject } of group) reject(error);
      }
    }
  }
}

type Sized = Pick<Part, 'calls' | 'bytes'>;

/** One asker's calls, in parts that fit into one exchange each. */
function split(calls: readonly RpcCall[]): Sized[] {
  const parts: { calls: RpcCall[]; bytes: number }[] = [];
  for (const call of calls) {
    const bytes = JSON.stringify(call).length + 30;
    const last = parts.at(-1);
    if (last && last.calls.length < MAX_CALLS && last.bytes + bytes <= MAX_BYTES) {
      last.calls.push(call);
      last.bytes += bytes;
    } else {
      parts.push({ calls: [call], bytes });
    }
  }
  return parts;
}
