import { type FakeServer, startFakeServer } from './fake-server.ts';

/** What a node believes; tests change it between requests. */
export type FakeState = {
  chainId: number;
  head: number;
  /** Distinguishes the hashes of two branches. */
  branch: string;
  /** Branches whose blocks are still known by their hashes. */
  branchesBefore: readonly string[];
  /** Unix seconds of the head; earlier blocks are 2 s apart. */
  headTime: number;
  /** Answer of isAppAllowed and isKmsAllowed at a block. */
  decide: (block: number, branch: string) => { allowed: boolean; reason: string } | 'revert' | 'nonsense';
  gatewayAppId: string;
  isPolicy: boolean;
  /** Told of each call before it is answered; may change the state. */
  before: (method: string, params: readonly unknown[]) => void;
  batches: boolean;
  blockHashCalls: boolean;
  /** `hang` never answers, `garbage` answers no JSON, `endless` streams without end. */
  mood: 'well' | 'hang' | 'garbage' | 'endless' | 'error';
};

export type FakeChain = FakeServer & { state: FakeState; count(method: string): number };

const word = (value: number): string => value.toString(16).padStart(64, '0');

function text(value: string): string {
  const hex = Buffer.from(value, 'utf8').toString('hex');
  return word(hex.length / 2) + hex.padEnd(Math.ceil(hex.length / 64) * 64, '0');
}

function hashOf(branch: string, number: number): string {
  return `0x${Buffer.from(`${branch}:${number}`).toString('hex').padEnd(64, '0')}`;
}

/** A node that believes the common, but for these changes. */
export function fakeState(changes: Partial<FakeState> = {}): FakeState {
  return {
    chainId: 31_337,
    head: 100,
    branch: 'main',
    branchesBefore: [],
    headTime: 1_000_000,
    decide: () => ({ allowed: true, reason: '' }),
    gatewayAppId: 'gateway',
    isPolicy: true,
    before: () => undefined,
    batches: true,
    blockHashCalls: true,
    mood: 'well',
    ...changes,
  };
}

/** A JSON-RPC node that answers what it is told to. */
export async function startFakeChain(changes: Partial<FakeState> = {}): Promise<FakeChain> {
  const state = fakeState(changes);
  const methods: string[] = [];

  const server = await startFakeServer(({ body }, response) => {
    if (state.mood === 'hang') return;
    if (state.mood === 'garbage') return void response.end('<html>');
    if (state.mood === 'error') return void response.writeHead(500).end('boom https://secret.example/key');
    if (state.mood === 'endless') {
      const more = (): void => {
        if (!response.destroyed && response.write('x'.repeat(65_536))) setImmediate(more);
      };
      response.on('drain', more);
      return more();
    }
    const message = JSON.parse(body) as FakeCall | FakeCall[];
    if (Array.isArray(message) && !state.batches) {
      return void response.end(
        JSON.stringify({ jsonrpc: '2.0', id: null, error: { code: -32600, message: 'no batches' } }),
      );
    }
    const answers = [message].flat().map((call) => {
      methods.push(call.method);
      state.before(call.method, call.params);
      return { jsonrpc: '2.0', id: call.id, ...fakeAnswer(state, call) };
    });
    // Nodes may answer a batch in any order.
    response.end(JSON.stringify(Array.isArray(message) ? answers.reverse() : answers[0]));
  });
  return { ...server, state, count: (method) => methods.filter((one) => one === method).length };
}

export type FakeCall = { readonly id: number; readonly method: string; readonly params: unknown[] };
export type FakeAnswer =
  | { readonly result: unknown }
  | { readonly error: { readonly code: number; readonly message: string; readonly data?: unknown } };

/** What a node in this state answers. */
export function fakeAnswer(state: FakeState, { method, params }: FakeCall): FakeAnswer {
  if (method === 'eth_chainId') return { result: `0x${state.chainId.toString(16)}` };
  if (method === 'eth_getBlockByNumber') return { result: blockAt(state, params[0] as string) };
  if (method === 'eth_call') return call(state, params as [{ data: string }, string | { blockHash: string }]);
  return { error: { code: -32601, message: 'no such method' } };
}

function blockAt(state: FakeState, tag: string): unknown {
  const number =
    tag === 'latest' ? state.head : tag === 'finalized' ? state.head - 10 : Number.parseInt(tag, 16);
  if (number > state.head) return null;
  return {
    number: `0x${number.toString(16)}`,
    hash: hashOf(state.branch, number),
    parentHash: hashOf(state.branch, number - 1),
    stateRoot: hashOf(`${state.branch}-state`, number),
    timestamp: `0x${Math.floor(state.headTime - (state.head - number) * 2).toString(16)}`,
  };
}

function call(
  state: FakeState,
  [{ data }, at]: [{ data: string }, string | { blockHash: string }],
): FakeAnswer {
  let number: number;
  let { branch } = state;
  if (typeof at === 'string') number = Number.parseInt(at, 16);
  else {
    if (!state.blockHashCalls) return { error: { code: -32602, message: 'invalid argument 1: hex string' } };
    const known = Array.from({ length: state.head + 1 }, (_, n) => n);
    number = -1;
    for (const one of [...state.branchesBefore, state.branch]) {
      const found = known.find((n) => hashOf(one, n) === at.blockHash);
      if (found !== undefined) [number, branch] = [found, one];
    }
    if (number < 0) return { error: { code: -32000, message: 'header for hash not found' } };
  }
  if (data.startsWith('0x95f51931')) return { result: `0x${word(32)}${text(state.gatewayAppId)}` };
  if (data.startsWith('0x25a992da')) return { result: `0x${word(0xabc)}` };
  if (data.startsWith('0x01ffc9a7')) return { result: state.isPolicy ? `0x${word(1)}` : '0x' };
  const decision = state.decide(number, branch);
  if (decision === 'revert') return { error: { code: 3, message: 'execution reverted: no' } };
  if (decision === 'nonsense') return { result: `0x${word(2)}${word(64)}${word(0)}` };
  return { result: `0x${word(decision.allowed ? 1 : 0)}${word(64)}${text(decision.reason)}` };
}
