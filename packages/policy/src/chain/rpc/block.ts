import { z } from 'zod';
import { PolicyError } from '../../errors.ts';
import type { RpcAnswer, RpcCall } from './rpc-answer.ts';

/** The part of a block header that decisions depend on. */
export type Block = {
  readonly number: bigint;
  /** 0x hex, lower case. */
  readonly hash: string;
  /** Unix seconds. */
  readonly timestamp: number;
  /** 0x hex, lower case. */
  readonly parentHash: string;
  /** 0x hex, lower case. Agreed upon like the rest; that it belongs to `hash` is for a reader of proofs to check. */
  readonly stateRoot: string;
};

const quantity = z.string().regex(/^0x[0-9a-fA-F]{1,16}$/);
const hash = z.string().regex(/^0x[0-9a-fA-F]{64}$/);
const blockSchema = z.object({
  number: quantity,
  hash,
  timestamp: quantity,
  parentHash: hash,
  stateRoot: hash,
});

/** Which block to ask for. */
export type BlockTag = 'latest' | 'safe' | 'finalized' | bigint;

/** `eth_getBlockByNumber` without transactions. */
export function blockCall(tag: BlockTag): RpcCall {
  const which = typeof tag === 'bigint' ? `0x${tag.toString(16)}` : tag;
  return { method: 'eth_getBlockByNumber', params: [which, false] };
}

/** @throws PolicyError `backend-answer` when the node has no such block */
export function blockFromAnswer(answer: RpcAnswer | undefined): Block {
  const parsed = blockSchema.safeParse(resultOf(answer));
  if (!parsed.success) throw new PolicyError('backend-answer', 'RPC endpoint answered no block');
  const { number, hash, timestamp, parentHash, stateRoot } = parsed.data;
  return {
    number: BigInt(number),
    hash: hash.toLowerCase(),
    timestamp: Number(BigInt(timestamp)),
    parentHash: parentHash.toLowerCase(),
    stateRoot: stateRoot.toLowerCase(),
  };
}

/** Equal for blocks that are equal in all that is read of them. */
export const blockKey = ({ number, hash, timestamp, parentHash, stateRoot }: Block): string =>
  `${number}/${hash}/${timestamp}/${parentHash}/${stateRoot}`;

/** @throws PolicyError `backend-answer` */
export function chainIdFromAnswer(answer: RpcAnswer | undefined): number {
  const parsed = quantity.safeParse(resultOf(answer));
  if (!parsed.success) throw new PolicyError('backend-answer', 'RPC endpoint answered no chain id');
  return Number(BigInt(parsed.data));
}

/** @throws PolicyError `backend-answer` when the node answered an error */
export function resultOf(answer: RpcAnswer | undefined): unknown {
  if (answer && 'result' in answer) return answer.result;
  const why = answer && 'error' in answer ? ` (${answer.error.code}: ${answer.error.message})` : '';
  throw new PolicyError('backend-answer', `RPC endpoint answered an error${why}`);
}
