import { createHash } from 'node:crypto';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { dstackKmsAbi } from '@dstack-cloud/contracts';
import { encodeAbiParameters, encodeEventTopics, type Hex, keccak256, pad, toHex } from 'viem';

export const KMS: Hex = `0x${'aa'.repeat(20)}`;
const SENDER: Hex = `0x${'bb'.repeat(20)}`;

/** A transaction that allows one OS image, registers an app so many times, and so many others with the numbers from one on. */
export type FakeTransaction = {
  readonly image?: Hex;
  readonly registrations?: number;
  readonly apps?: { readonly first: number; readonly count: number };
};

type FakeBlock = {
  readonly number: number;
  readonly hash: Hex;
  readonly parentHash: Hex;
  readonly timestamp: number;
  readonly transactions: readonly FakeTransaction[];
};

const sha = (text: string): Hex => `0x${createHash('sha256').update(text).digest('hex')}`;
const quantity = (value: number): Hex => `0x${value.toString(16)}`;
const topics = encodeEventTopics({ abi: dstackKmsAbi, eventName: 'OsImageHashAdded' }) as [Hex];

/** An app that anybody registers. */
export const APP: Hex = `0x${'cc'.repeat(20)}`;
export const numberedApp = (number: number): Hex => `0x${number.toString(16).padStart(40, '0')}`;
const REGISTERED = encodeEventTopics({ abi: dstackKmsAbi, eventName: 'AppRegistered' }) as [Hex];
const [CHANGED] = encodeEventTopics({ abi: dstackKmsAbi, eventName: 'PolicyChanged' }) as [Hex];
const OS_IMAGE = keccak256(toHex('os-image'));
const REGISTERED_APP = keccak256(toHex('registered-app'));
const addressTopic: Hex = `0x${'bb'.repeat(20).padStart(64, '0')}`;

/** A chain that can fork. Blocks are two seconds apart, the first is of two hours ago. */
export class FakeChain {
  blocks: FakeBlock[] = [];
  #forks = 0;

  constructor(length: number) {
    const start = Math.floor(Date.now() / 1_000) - 7_200;
    for (let number = 0; number < length; number += 1) this.#add([], start + 2 * number);
  }

  get head(): FakeBlock {
    return this.blocks.at(-1)!;
  }

  mine(...transactions: readonly FakeTransaction[]): void {
    this.#add(transactions, this.head.timestamp + 2);
  }

  /** Takes the newest blocks away; what is mined then has other hashes. @returns their transactions */
  fork(depth: number): FakeTransaction[] {
    this.#forks += 1;
    return this.blocks.splice(-depth).flatMap(({ transactions }) => transactions);
  }

  /** All images that were allowed, in order. */
  get images(): Hex[] {
    return this.blocks.flatMap(({ transactions }) =>
      transactions.flatMap(({ image }) => (image === undefined ? [] : [image])),
    );
  }

  #add(transactions: readonly FakeTransaction[], timestamp: number): void {
    const number = this.blocks.length;
    const parentHash = this.blocks.at(-1)?.hash ?? sha('genesis');
    const hash = sha(`${number}/${parentHash}/${this.#forks}/${JSON.stringify(transactions)}`);
    this.blocks.push({ number, hash, parentHash, timestamp, transactions });
  }
}

/** An endpoint of a chain, and how it behaves. */
export type FakeNode = {
  readonly url: string;
  chain: FakeChain;
  /** Blocks that it does not know yet. */
  behind: number;
  mood: 'well' | 'error' | 'hang' | 'no-logs' | 'garbage';
  /** What it keeps to itself. */
  hides: Hex | undefined;
  /** Answers that a range may have. */
  maxLogs: number;
  /** The contract counts its changes, as ours does and that of the 0.6 line does not. */
  counts: boolean;
  close(): Promise<void>;
};

type Call = { readonly id: number; readonly method: string; readonly params: readonly unknown[] };

export async function startFakeNode(chain: FakeChain): Promise<FakeNode> {
  const server = createServer((request, response) => {
    let body = '';
    request.on('data', (chunk: Buffer) => (body += chunk.toString()));
    request.on('end', () => {
      if (node.mood === 'hang') return;
      if (node.mood === 'error') return void response.writeHead(503).end('down');
      if (node.mood === 'garbage') return void response.end('{"jsonrpc"');
      const message = JSON.parse(body) as Call | Call[];
      const answers = [message]
        .flat()
        .map((call) => ({ jsonrpc: '2.0', id: call.id, ...answer(node, call) }));
      response.end(JSON.stringify(Array.isArray(message) ? answers : answers[0]));
    });
  });
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
  const { port } = server.address() as AddressInfo;
  const node: FakeNode = {
    url: `http://127.0.0.1:${port}`,
    chain,
    behind: 0,
    mood: 'well',
    hides: undefined,
    maxLogs: 1_000,
    counts: false,
    close: () =>
      new Promise((done) => {
        server.close(() => done());
        server.closeAllConnections();
      }),
  };
  return node;
}

function answer(node: FakeNode, { method, params }: Call): object {
  const blocks = node.chain.blocks.slice(0, node.chain.blocks.length - node.behind);
  if (method === 'eth_chainId') return { result: quantity(31_337) };
  if (method === 'eth_getBlockByNumber') {
    const [tag] = params as [string];
    const block = tag === 'latest' ? blocks.at(-1) : blocks[Number(tag)];
    return { result: block ? shown(block) : null };
  }
  if (method === 'eth_getLogs') {
    const [filter] = params as [
      {
        blockHash?: string;
        fromBlock?: string;
        toBlock?: string;
        address: string[];
        topics?: (string[] | null)[];
      },
    ];
    const asked = filter.blockHash
      ? blocks.filter(({ hash }) => hash === filter.blockHash)
      : blocks.slice(Number(filter.fromBlock), Number(filter.toBlock) + 1);
    if (filter.blockHash && asked.length === 0) return { error: { code: -32_000, message: 'unknown block' } };
    const logs =
      filter.address.includes(KMS) && node.mood !== 'no-logs'
        ? asked
            .flatMap((block) => logsOf(block, node))
            .filter(({ topics: of }) =>
              (filter.topics ?? []).every((one, at) => one === null || one.includes(of[at] ?? '')),
            )
        : [];
    if (logs.length > node.maxLogs)
      return { error: { code: -32_005, message: 'query returned more than allowed' } };
    return { result: logs };
  }
  if (method === 'eth_getTransactionByHash') {
    const [hash] = params as [string];
    return { result: { hash, from: SENDER, to: KMS, input: '0x' } };
  }
  if (method === 'eth_getStorageAt') return { result: pad('0x') };
  if (method === 'eth_call' && node.counts) {
    const [, { blockHash }] = params as [object, { blockHash: string }];
    const until = blocks.findIndex(({ hash }) => hash === blockHash);
    const epoch = blocks
      .slice(0, until + 1)
      .flatMap(({ transactions }) => transactions)
      .reduce((sum, { image, apps }) => sum + (image === undefined ? 0 : 1) + (apps?.count ?? 0), 0);
    return { result: `0x${epoch.toString(16).padStart(64, '0')}` };
  }
  // A contract of the 0.6 line has no epoch.
  if (method === 'eth_call') return { error: { code: 3, message: 'execution reverted', data: '0x' } };
  return { error: { code: -32_601, message: 'no such method' } };
}

function shown({ number, hash, parentHash, timestamp }: FakeBlock): object {
  const stateRoot = sha(`state/${hash}`);
  return { number: quantity(number), hash, parentHash, stateRoot, timestamp: quantity(timestamp) };
}

function logsOf(
  { number, hash, transactions }: FakeBlock,
  { counts, hides }: FakeNode,
): { readonly topics: readonly Hex[] }[] {
  let logIndex = 0;
  return transactions.flatMap((transaction) => {
    const { image, registrations = 0, apps } = transaction;
    const log = {
      address: KMS,
      blockNumber: quantity(number),
      blockHash: hash,
      transactionHash: sha(`transaction/${JSON.stringify(transaction)}`),
      removed: false,
    };
    const registered = (app: Hex): object => ({
      topics: REGISTERED,
      data: encodeAbiParameters([{ type: 'address' }], [app]),
    });
    const changed = (policy: Hex, value: Hex): object[] =>
      counts
        ? [
            {
              topics: [CHANGED, addressTopic, policy, value],
              data: encodeAbiParameters([{ type: 'bool' }], [true]),
            },
          ]
        : [];
    const before = Array.from({ length: registrations }, () => registered(APP));
    const others = Array.from({ length: apps?.count ?? 0 }, (_, index) => {
      const app = numberedApp(apps!.first + index);
      return [registered(app), ...changed(REGISTERED_APP, pad(app))];
    }).flat();
    const allowed =
      image === undefined || image === hides
        ? []
        : [
            { topics, data: encodeAbiParameters([{ type: 'bytes32' }], [image]) },
            ...changed(OS_IMAGE, image),
          ];
    return [...before, ...others, ...allowed].map((one) => ({
      ...log,
      ...(one as { readonly topics: readonly Hex[] }),
      logIndex: quantity(logIndex++),
    }));
  });
}
