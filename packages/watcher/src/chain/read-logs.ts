import { PolicyError } from '@dstack-cloud/policy';
import {
  askWhole,
  type Block,
  blockCall,
  blockFromAnswer,
  type RpcCall,
  type RpcEndpoint,
  resultOf,
} from '@dstack-cloud/policy/following';
import type { Hex } from 'viem';
import { z } from 'zod';
import { address, bytes, type ChainLog, inChainOrder, logsFromResult } from './chain-log.ts';

/** Addresses in one filter; nodes bound them. */
const MAX_ADDRESSES = 200;
/** More logs than this in one reading are read in smaller ranges. */
const MAX_LOGS = 2_000;

/** Who sent a transaction, and what with. */
export type Sender = { readonly from: Hex; readonly to: Hex | null; readonly input: Hex };

/** What a range of blocks has about some contracts. */
export type LogRange = {
  readonly from: number;
  /** The last block of the range. */
  readonly end: Block;
  /** In the order of the chain. */
  readonly logs: readonly ChainLog[];
  /** Unix seconds, by hash of the block. */
  readonly times: Readonly<Record<string, number>>;
  /** By hash of the transaction. */
  readonly senders: Readonly<Record<string, Sender>>;
};

/** The range has more than one answer should hold: read it in parts. */
export class TooMuch extends Error {}

/** What may stand in each place of the topics; null for anything. */
export type TopicFilter = readonly (readonly Hex[] | null)[];

/** Which logs are read. */
export type Wanted = {
  readonly from: number;
  readonly to: number;
  readonly addresses: readonly Hex[];
  /** Logs that one of these matches; all of them when absent. */
  readonly topics?: readonly TopicFilter[] | undefined;
};

/**
 * Near the head: each block by its hash, so that a node that does not know it cannot answer "no logs", and each is the
 * parent of the next.
 */
export async function readBlocks(
  endpoint: RpcEndpoint,
  wanted: Wanted,
  parent: string | undefined,
): Promise<LogRange> {
  const { from, to } = wanted;
  const numbers = Array.from({ length: to - from + 1 }, (_, index) => BigInt(from + index));
  const answers = await askWhole(endpoint, numbers.map(blockCall));
  const blocks = answers.map(blockFromAnswer);
  for (const [index, block] of blocks.entries()) {
    const before = index === 0 ? parent : blocks[index - 1]!.hash;
    if (block.number !== numbers[index] || (before !== undefined && block.parentHash !== before))
      throw new PolicyError('backend-answer', 'The chain changed its branch while it was read');
  }
  const logs = await askLogs(
    endpoint,
    blocks.flatMap(({ hash }) => filters({ blockHash: hash }, wanted)),
    wanted,
  );
  const byHash = new Map(blocks.map((block) => [block.hash, block]));
  for (const { blockHash, blockNumber } of logs) {
    if (Number(byHash.get(blockHash)?.number ?? -1) !== blockNumber)
      throw new PolicyError('backend-answer', 'RPC endpoint answered logs of a block that was not asked for');
  }
  return await complete(endpoint, wanted, logs, blocks.at(-1)!, byHash);
}

/** Far behind the head: many blocks in one question, between blocks that stay where they are. */
export async function readPast(endpoint: RpcEndpoint, wanted: Wanted): Promise<LogRange> {
  const { from, to } = wanted;
  const hex = (number: number): string => `0x${number.toString(16)}`;
  const logs = await askLogs(endpoint, filters({ fromBlock: hex(from), toBlock: hex(to) }, wanted), wanted);
  const numbers = [...new Set([...logs.map(({ blockNumber }) => blockNumber), to])];
  if (numbers.some((number) => number < from || number > to))
    throw new PolicyError('backend-answer', 'RPC endpoint answered logs of a block that was not asked for');
  const answers = await askWhole(
    endpoint,
    numbers.map((number) => blockCall(BigInt(number))),
  );
  const blocks = new Map(answers.map(blockFromAnswer).map((block) => [block.hash, block]));
  for (const { blockHash, blockNumber } of logs) {
    if (Number(blocks.get(blockHash)?.number ?? -1) !== blockNumber)
      throw new PolicyError('backend-answer', 'The chain changed its branch while it was read');
  }
  const end = [...blocks.values()].find(({ number }) => number === BigInt(to));
  if (!end) throw new PolicyError('backend-answer', 'RPC endpoint answered another block');
  return await complete(endpoint, wanted, logs, end, blocks);
}

async function askLogs(
  endpoint: RpcEndpoint,
  calls: readonly RpcCall[],
  { from, to }: Wanted,
): Promise<ChainLog[]> {
  const answers = await askWhole(endpoint, calls).catch((error: unknown) => {
    const message = error instanceof PolicyError ? error.message : '';
    // Some nodes have one code for too many results and too many questions.
    if (/longer than/.test(message) || (from < to && /limits the rate/.test(message))) throw new TooMuch();
    throw error;
  });
  for (const answer of answers) {
    if ('error' in answer && (from < to ? RANGE_TEXT : RESULTS_TEXT).test(answer.error.message))
      throw new TooMuch();
  }
  const logs = answers.flatMap((answer) => logsFromResult(resultOf(answer)));
  if (logs.length > MAX_LOGS) throw new TooMuch();
  return logs;
}

/** How nodes say that a range is too long or has too much in it. */
const RANGE_TEXT = /range|too (many|large|much)|more than|limit|exceed|max(imum)? |response size/i;

/** What of this can be said of one block; a limit of calls must not read as a block that is too full. */
const RESULTS_TEXT = /(too many|more than \d+) (results|logs|events)|returned more than|response size/i;

async function complete(
  endpoint: RpcEndpoint,
  { from, addresses }: Wanted,
  found: readonly ChainLog[],
  end: Block,
  blocks: ReadonlyMap<string, Block>,
): Promise<LogRange> {
  const logs = [...found].sort(inChainOrder);
  const asked = new Set<string>(addresses);
  const seen = new Set<string>();
  for (const { address: of, blockHash, logIndex } of logs) {
    const place = `${blockHash}/${logIndex}`;
    if (!asked.has(of) || seen.has(place))
      throw new PolicyError('backend-answer', 'RPC endpoint answered logs that were not asked for');
    seen.add(place);
  }
  const hashes = [...new Set(logs.map(({ transactionHash }) => transactionHash))];
  const answers = await askWhole(
    endpoint,
    hashes.map((hash) => ({ method: 'eth_getTransactionByHash', params: [hash] })),
  );
  const senders = Object.fromEntries(
    hashes.map((hash, index) => [hash, senderFrom(resultOf(answers[index]), hash)]),
  );
  const times = Object.fromEntries(
    logs.map(({ blockHash }) => [blockHash, blocks.get(blockHash)!.timestamp]),
  );
  return { from, end, logs, times, senders };
}

/** Input that is kept: enough for the signatures of a Safe with many owners. */
const MAX_INPUT = 2 + 2 * 65_536;
const transaction = z.object({ hash: z.string(), from: address, to: address.nullish(), input: bytes });

function senderFrom(result: unknown, hash: Hex): Sender {
  const parsed = transaction.safeParse(result);
  if (!parsed.success || parsed.data.hash.toLowerCase() !== hash)
    throw new PolicyError('backend-answer', 'RPC endpoint answered no transaction');
  const { from, to = null, input } = parsed.data;
  return { from, to, input: input.length > MAX_INPUT ? '0x' : input };
}

function filters(
  which: Readonly<Record<string, string>>,
  { addresses, topics }: Pick<Wanted, 'addresses' | 'topics'>,
): RpcCall[] {
  const matching = topics?.map((topic) => ({ topics: topic })) ?? [{}];
  const parts: RpcCall[] = [];
  for (let at = 0; at < addresses.length; at += MAX_ADDRESSES) {
    const part = addresses.slice(at, at + MAX_ADDRESSES);
    for (const match of matching)
      parts.push({ method: 'eth_getLogs', params: [{ ...which, address: part, ...match }] });
  }
  return parts;
}
