/** An RPC endpoint with the habits that people meet: what it refuses, how it says so, and what stands behind it. */
import type { ServerResponse } from 'node:http';
import { type FakeAnswer, type FakeCall, type FakeState, fakeAnswer } from './fake-chain.ts';
import { answerJson, type FakeServer, startFakeServer } from './fake-server.ts';

type RpcError = { readonly code: number; readonly message: string; readonly data?: unknown };

/** What happens to a batch. */
export const batchHabits = [
  'taken',
  'taken in another order',
  'taken with ids as text',
  'status 400',
  'status 413',
  'status 429',
  'status 500',
  'dropped',
  'one element',
  'one error for all',
  'an error for each',
  'error object',
  'HTML',
  'ids missing',
  'ids repeated',
  'answer missing',
  'empty array',
] as const;
type BatchHabit = (typeof batchHabits)[number];

/** How an endpoint says that it does not know the block hash of EIP-1898. */
export const hashErrors: readonly RpcError[] = [
  { code: -32_000, message: 'cannot query by that' },
  { code: -32_601, message: 'the method does not exist' },
  { code: -32_602, message: 'invalid argument 1: hex string without 0x prefix' },
  { code: -32_603, message: 'Internal error' },
  { code: -32_600, message: 'Invalid Request' },
  { code: 0, message: 'blockHash is not supported' },
];

/** `Error("no")` as contracts return it. */
const RETURNED = `0x08c379a0${'20'.padStart(64, '0')}${'2'.padStart(64, '0')}${'6e6f'.padEnd(64, '0')}`;

/** How nodes report a revert; `says` is what they pass on of the contract's reason. */
export const reverts: readonly { readonly error: RpcError; readonly says: string }[] = [
  { error: { code: 3, message: 'execution reverted: no', data: RETURNED }, says: 'no' },
  { error: { code: 3, message: 'execution reverted', data: '0x' }, says: '' },
  { error: { code: -32_000, message: 'execution reverted' }, says: '' },
  { error: { code: -32_000, message: 'execution reverted: no' }, says: 'no' },
  { error: { code: -32_000, message: 'execution reverted', data: RETURNED }, says: 'no' },
  { error: { code: -32_015, message: 'VM execution error.', data: `Reverted ${RETURNED}` }, says: 'no' },
  { error: { code: -32_015, message: 'VM execution error.', data: 'Bad instruction fe' }, says: '' },
  { error: { code: -32_603, message: 'Internal error', data: RETURNED }, says: 'no' },
  {
    error: {
      code: -32_603,
      message: 'Internal JSON-RPC error.',
      data: { code: 3, message: 'execution reverted: no', data: RETURNED },
    },
    says: 'no',
  },
  {
    error: {
      code: -32_603,
      message: "Error: VM Exception while processing transaction: reverted with reason string 'no'",
      data: { message: 'Error: VM Exception', txHash: `0x${'12'.repeat(32)}`, data: RETURNED },
    },
    says: 'no',
  },
  {
    error: {
      code: -32_000,
      message: 'VM Exception while processing transaction: revert no',
      data: {
        [`0x${'34'.repeat(32)}`]: { error: 'revert', return: RETURNED, reason: 'no' },
        name: 'RuntimeError',
      },
    },
    says: 'no',
  },
  { error: { code: -32_000, message: 'out of gas' }, says: '' },
];

/** What makes an endpoint useless, at least for a while. */
export const deaths = [
  'hangs',
  'trickles',
  'floods',
  'redirects',
  'status 503',
  'drops',
  'always 429',
] as const;

export type Habits = {
  readonly batches: BatchHabit;
  /** Its refusal of block hashes; undefined for one that takes them. */
  readonly hashError?: RpcError | undefined;
  /** Writes `"error": null` beside results. */
  readonly errorNull: boolean;
  readonly revert: RpcError;
  /** Sends JSON-RPC errors with this status. */
  readonly errorStatus: 200 | 400 | 500;
  /** Refuses every third call the first time, because of a rate limit. */
  readonly limits: boolean;
  /** A third of the exchanges is served by a backend that is so many blocks behind. */
  readonly behind: number;
  /** Sends the calls of a batch to its backends one by one. */
  readonly splits: boolean;
  /** What it says of every workload, whatever the contract says. */
  readonly lies?: 'allowed' | 'denied' | undefined;
  readonly death?: (typeof deaths)[number] | undefined;
};

const plainHabits: Habits = {
  batches: 'taken',
  errorNull: false,
  revert: reverts[0]!.error,
  errorStatus: 200,
  limits: false,
  behind: 0,
  splits: false,
};

export type OddEndpoint = FakeServer & {
  habits: Habits;
  /** Batches that came. */
  batches(): number;
  /** Calls that named a block by its hash. */
  hashCalls(): number;
};

/** In an order without a rhythm that a client could keep to. */
function isBehind(turn: number): boolean {
  let mixed = turn;
  for (let round = 0; round < 2; round++) mixed = Math.imul(mixed ^ (mixed >>> 16), 0x045d_9f3b);
  return ((mixed ^ (mixed >>> 16)) >>> 0) % 3 === 0;
}

const LYING_ANSWER = {
  allowed: { allowed: true, reason: '' },
  denied: { allowed: false, reason: 'a lie' },
};

/** @param state what its backends know */
export async function startOddEndpoint(
  state: FakeState,
  changes: Partial<Habits> = {},
): Promise<OddEndpoint> {
  let [batches, hashCalls, exchanges, calls] = [0, 0, 0, 0];

  const refused = new Set<string>();
  const isLimited = ({ method, params }: FakeCall): boolean => {
    calls += 1;
    const question = JSON.stringify([method, params]);
    if (!endpoint.habits.limits || calls % 3 !== 0 || refused.has(question)) return false;
    refused.add(question);
    return true;
  };
  const answerOne = (call: FakeCall, turn: number): object => {
    const { hashError, errorNull, revert, behind, lies } = endpoint.habits;
    const answer = ((): FakeAnswer => {
      if (isLimited(call)) return { error: { code: -32_005, message: 'daily request count exceeded' } };
      const at = call.params.at(-1);
      if (typeof at === 'object' && at !== null) {
        hashCalls += 1;
        if (hashError) return { error: hashError };
      }
      const lag = isBehind(turn) ? behind : 0;
      state.before(call.method, call.params);
      const backend = {
        ...state,
        head: state.head - lag,
        headTime: state.headTime - lag * 2,
        ...(lies ? { decide: () => LYING_ANSWER[lies] } : {}),
      };
      // What it does not have, it does not execute.
      if (call.method === 'eth_call' && typeof at === 'string' && Number.parseInt(at, 16) > backend.head) {
        return { error: { code: -32_000, message: 'header not found' } };
      }
      return fakeAnswer(backend, call);
    })();
    const shown = 'error' in answer && answer.error.code === 3 ? { error: revert } : answer;
    return { ...(errorNull && 'result' in shown ? { error: null } : {}), ...shown };
  };

  const server = await startFakeServer(({ body }, response) => {
    exchanges += 1;
    const turn = exchanges;
    const { habits } = endpoint;
    if (habits.death && die(habits.death, response)) return;
    const message = JSON.parse(body) as FakeCall | FakeCall[];
    if (!Array.isArray(message)) {
      const answer = answerOne(message, turn);
      const status = 'error' in answer && answer.error !== null ? habits.errorStatus : 200;
      return answerJson(response, { jsonrpc: '2.0', id: message.id, ...answer }, status);
    }
    batches += 1;
    const answers = message.map((call, index) => ({
      jsonrpc: '2.0',
      id: call.id as unknown,
      ...answerOne(call, habits.splits ? turn + index : turn),
    }));
    const answer = batchAnswer(habits.batches, answers, response);
    if (answer !== undefined) answerJson(response, answer);
  });
  const endpoint: OddEndpoint = {
    ...server,
    habits: { ...plainHabits, ...changes },
    batches: () => batches,
    hashCalls: () => hashCalls,
  };
  return endpoint;
}

/** @returns what goes out as JSON, or undefined for something else that went out */
function batchAnswer(
  habit: BatchHabit,
  answers: { readonly id: unknown }[],
  response: ServerResponse,
): unknown {
  const error = { code: -32_600, message: 'batches are not supported' };
  const refusal = { jsonrpc: '2.0', id: null, error };
  switch (habit) {
    case 'taken':
      return answers;
    case 'taken in another order':
      return answers.reverse();
    case 'taken with ids as text':
      return answers.map((answer) => ({ ...answer, id: String(answer.id) }));
    case 'one element':
      return answers.slice(0, 1);
    case 'one error for all':
      return [refusal];
    case 'an error for each':
      return answers.map(({ id }) => ({ ...refusal, id }));
    case 'error object':
      return refusal;
    case 'ids missing':
      return answers.map(({ id: _, ...answer }) => answer);
    case 'ids repeated':
      return answers.map((answer) => ({ ...answer, id: 0 }));
    case 'answer missing':
      return answers.slice(1);
    case 'empty array':
      return [];
    case 'dropped':
      response.destroy();
      return undefined;
    case 'HTML':
      response.writeHead(200, { 'content-type': 'text/html' }).end('<html>welcome</html>');
      return undefined;
    default:
      response.writeHead(Number(habit.slice('status '.length))).end('<html>\u00e9</html>', 'latin1');
      return undefined;
  }
}

/** @returns whether there is nothing more to answer */
function die(death: NonNullable<Habits['death']>, response: ServerResponse): boolean {
  switch (death) {
    case 'hangs':
      return true;
    case 'trickles': {
      response.writeHead(200, { 'content-type': 'application/json' });
      const timer = setInterval(() => response.write(' '), 20);
      response.once('close', () => clearInterval(timer));
      return true;
    }
    case 'floods': {
      const more = (): void => {
        if (!response.destroyed && response.write('x'.repeat(65_536))) setImmediate(more);
      };
      response.on('drain', more);
      more();
      return true;
    }
    case 'redirects':
      response.writeHead(302, { location: 'http://127.0.0.1:1/' }).end();
      return true;
    case 'status 503':
      answerJson(
        response,
        { jsonrpc: '2.0', id: 0, error: { code: -32_603, message: 'no backend is up' } },
        503,
      );
      return true;
    case 'drops':
      response.destroy();
      return true;
    case 'always 429':
      response.writeHead(429).end('slow down');
      return true;
  }
}
