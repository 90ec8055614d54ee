import { performance } from 'node:perf_hooks';
import { setTimeout as sleep } from 'node:timers/promises';
import { backendUrl, publicUrl } from '../../backend-url.ts';
import { PolicyError } from '../../errors.ts';
import {
  type Connections,
  exchange,
  type HttpAnswer,
  isConnectFailure,
  openConnections,
} from '../../http/http-exchange.ts';
import { inTurns } from './in-turns.ts';
import { type Lacks, newLacks } from './lacks.ts';
import { badAnswer, batchAnswers, isLimited, type RpcAnswer, type RpcCall, rpcAnswer } from './rpc-answer.ts';
import { RpcQueue } from './rpc-queue.ts';

const MIB = 1024 * 1024;
/** Of one call's answer, and more of a batch's. */
const MAX_ANSWER_BYTES = MIB;
const MAX_BATCH_ANSWER_BYTES = 8 * MIB;
const BATCH_ANSWER_BYTES_PER_CALL = 128 * 1024;
/** Calls that are on their way at once to an endpoint without batches. */
const SINGLE_CALLS = 8;
/** Before calls are sent again that the endpoint's rate limit refused. */
const LIMITED_PAUSES_MS = [200, 500, 900];
/** All that one question may take, with batches refused and limits waited for: so many times the limit of an exchange. */
const EXCHANGE_TIMES = 2;
const FIRST_PAUSE_MS = 250;
const LONGEST_PAUSE_MS = 30_000;
const SLOW_PAUSE_MS = 1_000;

const TOO_MANY_REQUESTS = 429;

type Sending = {
  /** Over a new connection. */
  readonly fresh?: boolean;
};

/** What is sent, until when an answer is waited for. */
type Attempt = Sending & { readonly until: number };

/** One JSON-RPC endpoint: batches over kept connections, with time-out, bounds and a record of its health and habits. */
export class RpcEndpoint {
  /** Scheme and host, fit to show. */
  readonly name: string;
  /** What it was found not to do. */
  readonly lacks: Lacks;
  /** Rounds in a row in which it answered no multicall although it answered other calls at the same block. */
  multicallRefusals: { readonly count: number; readonly at: number } = { count: 0, at: 0 };
  readonly #url: URL;
  readonly #timeoutMs: number;
  readonly #connections: Connections;
  readonly #queue = new RpcQueue((calls) => this.batch(calls));
  #exchanges = 0;
  #calls = 0;
  #failures = 0;
  #pausedUntil = 0;
  #slowUntil = 0;

  /** @param onLack told in words what it was found not to do */
  constructor(url: string, timeoutMs: number, onLack: (endpoint: string, what: string) => void = () => {}) {
    this.#url = backendUrl(url, 'An RPC address');
    this.name = publicUrl(this.#url);
    this.lacks = newLacks((what) => onLack(this.name, what));
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
   * Send several calls, in one exchange if the endpoint takes batches.
   * @returns one answer for each call, in order
   * @throws PolicyError `backend-…`
   */
  async batch(calls: readonly RpcCall[], sending: Sending = {}): Promise<RpcAnswer[]> {
    const until = performance.now() + EXCHANGE_TIMES * this.#timeoutMs;
    try {
      const answers = await this.#withinLimits(calls, { ...sending, until });
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

  /** Sends again, a moment later, what was refused because calls are counted: of a batch it may be a part. */
  async #withinLimits(calls: readonly RpcCall[], attempt: Attempt): Promise<RpcAnswer[]> {
    const answers = await this.#send(calls, attempt);
    for (const pause of LIMITED_PAUSES_MS) {
      const limited = answers.flatMap((answer, index) => (isLimited(answer) ? [index] : []));
      if (limited.length === 0) return answers;
      await sleep(pause);
      const again = await this.#send(
        limited.map((index) => calls[index]!),
        attempt,
      );
      for (const [position, index] of limited.entries()) answers[index] = again[position]!;
    }
    if (!answers.some(isLimited)) return answers;
    throw new PolicyError('backend-status', 'RPC endpoint limits the rate of calls');
  }

  async #send(calls: readonly RpcCall[], attempt: Attempt): Promise<RpcAnswer[]> {
    if (calls.length < 2 || this.lacks.batches.known) return await this.#sendSingly(calls, attempt);
    const answers = await this.#sendBatch(calls, attempt);
    if (answers) {
      this.lacks.batches.disprove();
      return answers;
    }
    // Refused, or the endpoint is down. One call by itself tells, and a dead endpoint is not asked for all of them.
    const [first, ...rest] = calls as [RpcCall, ...RpcCall[]];
    const single = [
      ...(await this.#sendSingly([first], attempt)),
      ...(await this.#sendSingly(rest, attempt)),
    ];
    if (single.some((answer) => 'result' in answer)) this.lacks.batches.note(true);
    return single;
  }

  /** @returns undefined for whatever may mean that batches are not taken */
  async #sendBatch(calls: readonly RpcCall[], attempt: Attempt): Promise<RpcAnswer[] | undefined> {
    const message = calls.map((call, id) => ({ jsonrpc: '2.0', id, ...call }));
    try {
      const answer = await this.#post(message, calls.length, attempt);
      return isGood(answer) ? batchAnswers(parsed(answer), calls.length) : undefined;
    } catch (error) {
      const dropped = error instanceof PolicyError && error.code === 'backend-unreachable';
      if (dropped && !isConnectFailure(error)) return undefined;
      throw error;
    }
  }

  async #sendSingly(calls: readonly RpcCall[], attempt: Attempt): Promise<RpcAnswer[]> {
    return await inTurns(calls, SINGLE_CALLS, async (call): Promise<RpcAnswer> => {
      const answer = await this.#post({ jsonrpc: '2.0', id: 0, ...call }, 1, attempt);
      if (isGood(answer)) return rpcAnswer(unwrapped(parsed(answer)) ?? badJson());
      if (answer.status === TOO_MANY_REQUESTS) return { error: { code: answer.status, message: 'HTTP 429' } };
      // Some nodes send their errors, reverts among them, with a status to match.
      const said = errorAnswer(parsed(answer));
      if (said) return said;
      throw new PolicyError('backend-status', `RPC endpoint answered HTTP ${answer.status}`);
    });
  }

  async #post(message: unknown, count: number, { fresh = false, until }: Attempt): Promise<HttpAnswer> {
    const left = until - performance.now();
    if (left <= 0) throw new PolicyError('backend-timeout', 'RPC endpoint did not answer in time');
    this.#exchanges += 1;
    this.#calls += count;
    return await exchange({
      method: 'POST',
      url: this.#url,
      headers: { 'content-type': 'application/json', accept: 'application/json' },
      body: JSON.stringify(message),
      timeoutMs: Math.min(this.#timeoutMs, left),
      maxBytes: Math.min(
        MAX_BATCH_ANSWER_BYTES,
        Math.max(MAX_ANSWER_BYTES, count * BATCH_ANSWER_BYTES_PER_CALL),
      ),
      connections: this.#connections,
      fresh,
    });
  }
}

const isGood = ({ status }: HttpAnswer): boolean => status >= 200 && status <= 299;

/** Undefined for what is no JSON. */
function parsed({ body }: HttpAnswer): unknown {
  try {
    return JSON.parse(body);
  } catch {
    return undefined;
  }
}

/** Some servers answer each request as a batch. */
const unwrapped = (answer: unknown): unknown =>
  Array.isArray(answer) && answer.length === 1 ? (answer as unknown[])[0] : answer;

/** The error in an answer that HTTP calls a failure; a result in one counts for nothing. */
function errorAnswer(item: unknown): RpcAnswer | undefined {
  if (typeof item !== 'object' || item === null || !('error' in item) || !('jsonrpc' in item))
    return undefined;
  try {
    const answer = rpcAnswer(item);
    return 'error' in answer ? answer : undefined;
  } catch (error) {
    if (error instanceof PolicyError) return undefined;
    throw error;
  }
}

function badJson(): never {
  throw badAnswer('no JSON');
}
