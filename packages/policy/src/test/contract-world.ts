/** A chain of blocks with contracts that count their changes or do not, and nodes that serve it honestly or not. */
import { toHex } from '@dstack-cloud/encoding';
import { MULTICALL_CODE, readAnswer } from '../chain/multicall/multicall-code.ts';
import { type FakeServer, startFakeServer } from './fake-server.ts';

export type AppState = {
  readonly allowed: boolean;
  /** Whether the contract has `policyEpoch` and what belongs to it. */
  readonly counts: boolean;
  readonly epoch: number;
  /** Unix seconds; 0 for no expiry. */
  readonly notAfter: number;
  readonly implementation: number;
};
export type ContractState = {
  readonly counts: boolean;
  readonly epoch: number;
  readonly imageAllowed: boolean;
  readonly imageNotAfter: number;
  readonly implementation: number;
  readonly apps: readonly AppState[];
};
export type WorldBlock = {
  readonly number: number;
  readonly hash: string;
  readonly parentHash: string;
  readonly timestamp: number;
  readonly state: ContractState;
};

export const KMS: string = `0x${'ab'.repeat(20)}`;
export const appIdOf = (index: number): Uint8Array => new Uint8Array(20).fill(0x10 + index);

/** The chain and every block that ever was. */
export class ContractWorld {
  chain: WorldBlock[];
  readonly #blocks = new Map<string, WorldBlock>();
  #count = 0;

  constructor(state: ContractState) {
    this.chain = [];
    this.mine(state);
  }

  get head(): WorldBlock {
    return this.chain.at(-1)!;
  }

  byHash(hash: string): WorldBlock | undefined {
    return this.#blocks.get(hash);
  }

  /** @param seconds after the block before */
  mine(state: ContractState, seconds = 2): void {
    this.#count += 1;
    const parent = this.chain.at(-1);
    const block: WorldBlock = {
      number: (parent?.number ?? 99) + 1,
      hash: `0x${word(this.#count)}`,
      parentHash: parent?.hash ?? `0x${word(0)}`,
      timestamp: (parent?.timestamp ?? 1_000_000) + seconds,
      state,
    };
    this.chain.push(block);
    this.#blocks.set(block.hash, block);
  }

  /** The last blocks are no part of the chain any more; other ones will be. */
  forget(depth: number): void {
    this.chain = this.chain.slice(0, Math.max(1, this.chain.length - depth));
  }
}

/** What `isAppAllowed` says of an app at a block. */
export function isAllowed({ state, timestamp }: WorldBlock, app: number): boolean {
  const alive = (notAfter: number): boolean => notAfter === 0 || timestamp <= notAfter;
  const { allowed, notAfter } = state.apps[app]!;
  return state.imageAllowed && alive(state.imageNotAfter) && allowed && alive(notAfter);
}

/** How a node behaves; a liar says of the present block what was true at `block`, and that nothing changed since. */
export type Behaviour =
  | { readonly type: 'honest' | 'dead' }
  | { readonly type: 'slow'; readonly ms: number }
  | { readonly type: 'stale'; readonly block: WorldBlock }
  | { readonly type: 'liar'; readonly block: WorldBlock | 'allows all' };

export type WorldNode = FakeServer & {
  behaviour: Behaviour;
  /** Contract calls that were executed, by selector. */
  readonly executed: Map<string, number>;
  /** HTTP requests. */
  exchanges: number;
  /** Most contract calls that one of them had executed. */
  largest: number;
};

type Call = { id: number; method: string; params: unknown[] };

function countOf(executed: ReadonlyMap<string, number>): number {
  return [...executed.values()].reduce((sum, count) => sum + count, 0);
}

export async function startWorldNode(world: ContractWorld): Promise<WorldNode> {
  const executed = new Map<string, number>();
  const server = await startFakeServer(({ body }, response) => {
    node.exchanges += 1;
    const { behaviour } = node;
    if (behaviour.type === 'dead') return void response.writeHead(503).end();
    const before = countOf(executed);
    const answers = ([JSON.parse(body)].flat() as Call[]).map((call) => ({
      jsonrpc: '2.0',
      id: call.id,
      ...answer(call),
    }));
    node.largest = Math.max(node.largest, countOf(executed) - before);
    const send = (): void => void response.end(JSON.stringify(answers));
    if (behaviour.type === 'slow') setTimeout(send, behaviour.ms);
    else send();
  });
  const node: WorldNode = { ...server, behaviour: { type: 'honest' }, executed, exchanges: 0, largest: 0 };

  const answer = ({ method, params }: Call): object => {
    const { behaviour } = node;
    if (method === 'eth_chainId') return { result: '0x7a69' };
    if (method === 'eth_getBlockByNumber') {
      const stale = behaviour.type === 'stale' ? behaviour.block.number : Number.POSITIVE_INFINITY;
      const top = Math.min(stale, world.head.number);
      const number = params[0] === 'latest' ? top : Number.parseInt(params[0] as string, 16);
      return { result: number > top ? null : shown(world.chain[number - world.chain[0]!.number]) };
    }
    const [{ to, data }, { blockHash }] = params as [{ to?: string; data: string }, { blockHash: string }];
    const block = world.byHash(blockHash);
    if (!block) return { error: { code: -32_000, message: 'header not found' } };
    const seen = behaviour.type === 'liar' ? behaviour.block : block;
    if (to === undefined) return { result: `0x00${packed(data, seen)}` };
    const result = execute(to, data, seen);
    return result === null ? { error: { code: 3, message: 'execution reverted' } } : { result };
  };

  const packed = (data: string, seen: WorldBlock | 'allows all'): string => {
    let [text, at] = ['', 2 + MULTICALL_CODE.length];
    while (at < data.length) {
      const length = Number.parseInt(data.slice(at + 46, at + 50), 16) * 2;
      const result = execute(
        `0x${data.slice(at, at + 40)}`,
        `0x${data.slice(at + 50, at + 50 + length)}`,
        seen,
      );
      const entry = (result === null ? null : readAnswer(result))?.split(':') ?? ['', word(0)];
      text += `${{ word: '01', digest: '02' }[entry[0]!] ?? '00'}${entry[1]}`;
      at += 50 + length;
    }
    return text;
  };

  function execute(to: string, data: string, seen: WorldBlock | 'allows all'): string | null {
    const selector = data.slice(2, 10);
    executed.set(selector, (executed.get(selector) ?? 0) + 1);
    const { state } = seen === 'allows all' ? world.head : seen;
    const target =
      to === KMS
        ? { ...state, notAfter: 0 }
        : state.apps.find((_, index) => to.slice(2) === toHex(appIdOf(index)));
    if (!target) return '0x';
    const appAt = (position: number): number =>
      state.apps.findIndex((_, index) => data.slice(position, position + 64) === word(0n, appIdOf(index)));
    switch (selector) {
      case '1e079198': {
        const app = appAt(10 + 64);
        const allowed = seen === 'allows all' || (app >= 0 && isAllowed(seen, app));
        return `0x${word(allowed ? 1 : 0)}${word(64)}${allowed ? word(0) : `${word(2)}${'6e6f'.padEnd(64, '0')}`}`;
      }
      case '95f51931':
        return `0x${word(32)}${word(1)}${'67'.padEnd(64, '0')}`;
      case '01ffc9a7': {
        const id = data.slice(10, 18);
        return `0x${word(id === '1e079198' || (id === 'a921d322' && target.counts) ? 1 : 0)}`;
      }
      case 'a921d322':
        return target.counts ? `0x${word(target.epoch)}` : null;
      case '5c60da1b':
        return target.counts ? `0x${word(target.implementation)}` : null;
      case 'e83c939f':
        return state.counts ? `0x${word(state.imageNotAfter)}` : null;
      case '34504dbf':
        return state.counts ? `0x${word(0)}` : null;
      case 'cbe428c8':
        return target.counts ? `0x${word(target.notAfter)}` : null;
      default:
        return null;
    }
  }
  return node;
}

function shown(block: WorldBlock | undefined): object | null {
  if (!block) return null;
  const { number, hash, parentHash, timestamp } = block;
  const quantity = (value: number): string => `0x${value.toString(16)}`;
  return {
    number: quantity(number),
    timestamp: quantity(timestamp),
    ...{ hash, parentHash, stateRoot: hash },
  };
}

function word(value: number | bigint, bytes?: Uint8Array): string {
  return (bytes ? toHex(bytes) : value.toString(16)).padStart(64, '0');
}
