import { performance } from 'node:perf_hooks';
import { z } from 'zod';
import { backendUrl, publicUrl } from '../../backend-url.ts';
import { PolicyError } from '../../errors.ts';
import { type Connections, exchange, openConnections } from '../../http/http-exchange.ts';
import { publicText } from '../../public-text.ts';
import { RpcQueue } from './rpc-queue.ts';

const MIB = 1024 * 1024;
/** Of one call's answer, and more of a batch's. */
const MAX_ANSWER_BYTES = MIB;
const MAX_BATCH_ANSWER_BYTES = 8 * MIB;
const BATCH_ANSWER_BYTES_PER_CALL = 128 * 1024;
const FIRST_PAUSE_MS = 250;
const LONGEST_PAUSE_MS = 30_000;
const SLOW_PAUSE_MS = 1_000;

/** One JSON-RPC call. */
export type RpcCall = { readonly method: string; readonly params: readonly unknown[] };

/** Its answer: a result, or the error the node gave. */
export type RpcAnswer =
  | { readonly result: unknown }
  | { readonly error: { readonly code: number; readonly message: string } };

const answerSchema = z.object({
  id: z.int(),
  result: z.unknown().optional(),
  error: z.object({ code: z.number(), message: z.string() }).optional(),
});

/** One JSON-RPC endpoint: batches over kept connections, with time-out, bounds and a record of its health. */
export class RpcEndpoint {
  /** Scheme and host, fit to show. */
  readonly name: string;
  readonly #url: URL;
  readonly #timeoutMs: number;
  readonly #connections: Connections;
  readonly #queue = new RpcQueue((calls) => this.batch(calls));
  #batches = true;
  #exchanges = 0;
  #calls = 0;
  #failures = 0;
  #pausedUntil = 0;
  #slowUntil = 0;

  constructor(url: string, timeoutMs: number) {
    this.#url = backendUrl(url, 'An RPC address');
    this.name = publicUrl(this.#url);
    this.#timeoutMs = timeoutMs;
    this.#connections = openConnections(this.#url);
  }

  /** False for a while after failures, longer each time, and after being slow: others are asked if they suffice. */
  get healthy(): boolean {
    return performance.now() >= Math.max(this.#pausedUntil, this.#slowUntil);
  }

  /** Failed exchanges since the last good one. */
  get failures(): number {
    return this.#failures;
  }

  /** What was sent to it so far. */
  get sent(): { readonly exchanges: number; readonly calls: number } {
    return { exchanges: this.#exchanges, calls: this.#calls };
  }

  /** The same as `batch`, together with what others ask in the same tick, in exchanges of bounded size. */
  gather(calls: readonly RpcCall[]): Promise<RpcAnswer[]> {
    return this.#queue.gather(calls);
  }

  /**
   * Send several calls in one exchange.
   * @returns one answer for each call, in order
   * @throws PolicyError `backend-…`
   */
  async batch(calls: readonly RpcCall[]): Promise<RpcAnswer[]> {
    try {
      const answers = this.#batches ? await this.#sendBatch(calls) : await this.#sendSingly(calls);
      this.#failures = 0;
      this.#pausedUntil = 0;
      return answers;
    } catch (error) {
      this.noteFailure();
      throw error;
    }
  }

  /** Also called for answers that are well formed and wrong, such as another chain's. */
  noteFailure(): void {
    this.#failures += 1;
    const pause = Math.min(FIRST_PAUSE_MS * 2 ** Math.min(this.#failures - 1, 16), LONGEST_PAUSE_MS);
    this.#pausedUntil = performance.now() + pause;
  }

  /** The others were faster; requests shall not wait for this one again for a moment. */
  noteLate(): void {
    this.#slowUntil = performance.now() + SLOW_PAUSE_MS;
  }

  close(): void {
    this.#connections.close();
  }

  async #sendBatch(calls: readonly RpcCall[]): Promise<RpcAnswer[]> {
    const answer = await this.#post(calls.map((call, id) => ({ jsonrpc: '2.0', id, ...call })));
    if (!Array.isArray(answer)) {
      // A node without batches answers one error object.
      this.#batches = false;
      return await this.#sendSingly(calls);
    }
    const byId = new Map<number, RpcAnswer>();
    for (const item of answer.slice(0, calls.length + 1)) {
      const [id, parsed] = parseAnswer(item);
      byId.set(id, parsed);
    }
    if (byId.size !== answer.length) throw badAnswer('an id occurs twice');
    return calls.map((_, id) => byId.get(id) ?? missing());
  }

  async #sendSingly(calls: readonly RpcCall[]): Promise<RpcAnswer[]> {
    return await Promise.all(
      calls.map(async (call) => parseAnswer(await this.#post({ jsonrpc: '2.0', id: 0, ...call }))[1]),
    );
  }

  async #post(message: unknown): Promise<unknown> {
    const count = Array.isArray(message) ? message.length : 1;
    this.#exchanges += 1;
    this.#calls += count;
    const answer = await exchange({
      method: 'POST',
      url: this.#url,
      headers: { 'content-type': 'application/json', accept: 'application/json' },
      body: JSON.stringify(message),
      timeoutMs: this.#timeoutMs,
      maxBytes: Math.min(
        MAX_BATCH_ANSWER_BYTES,
        Math.max(MAX_ANSWER_BYTES, count * BATCH_ANSWER_BYTES_PER_CALL),
      ),
      connections: this.#connections,
    });
    if (answer.status !== 200) {
      throw new PolicyError('backend-status', `RPC endpoint answered HTTP ${answer.status}`);
    }
    try {
      return JSON.parse(answer.body);
    } catch (cause) {
      throw new PolicyError('backend-answer', 'RPC endpoint answered no JSON', { cause });
    }
  }
}

function parseAnswer(item: unknown): [number, RpcAnswer] {
  const parsed = answerSchema.safeParse(item);
  if (!parsed.success) throw badAnswer('not a JSON-RPC answer');
  const { id, result, error } = parsed.data;
  if (error) return [id, { error: { code: error.code, message: publicText(error.message) } }];
  if (result === undefined) throw badAnswer('neither result nor error');
  return [id, { result }];
}

function missing(): never {
  throw badAnswer('an answer is missing');
}

function badAnswer(what: string): PolicyError {
  return new PolicyError('backend-answer', `RPC endpoint answered wrongly: ${what}`);
}
