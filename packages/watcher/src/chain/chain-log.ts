import { PolicyError } from '@dstack-cloud/policy';
import type { Hex } from 'viem';
import { z } from 'zod';

/** One log of a contract, normalised: hex is lower case. */
export type ChainLog = {
  readonly address: Hex;
  readonly topics: readonly Hex[];
  readonly data: Hex;
  readonly blockNumber: number;
  readonly blockHash: Hex;
  readonly transactionHash: Hex;
  readonly logIndex: number;
};

const lower = (text: string): Hex => text.toLowerCase() as Hex;
const hash32 = z
  .string()
  .regex(/^0x[0-9a-fA-F]{64}$/)
  .transform(lower);
export const address: z.ZodType<Hex> = z
  .string()
  .regex(/^0x[0-9a-fA-F]{40}$/)
  .transform(lower);
export const bytes: z.ZodType<Hex> = z
  .string()
  .regex(/^0x([0-9a-fA-F]{2})*$/)
  .transform(lower);
/** Block numbers and indices fit a number; what does not is no block of ours. */
const count = z
  .string()
  .regex(/^0x[0-9a-fA-F]{1,13}$/)
  .transform(Number);

const logs = z.array(
  z.object({
    address,
    topics: z.array(hash32).max(4),
    data: bytes,
    blockNumber: count,
    blockHash: hash32,
    transactionHash: hash32,
    logIndex: count,
    removed: z.literal(false).optional(),
  }),
);

/** @throws PolicyError `backend-answer` for what is no list of logs, or has one of an abandoned block */
export function logsFromResult(result: unknown): ChainLog[] {
  const parsed = logs.safeParse(result);
  if (parsed.success) return parsed.data.map(({ removed: _, ...log }) => log);
  throw new PolicyError('backend-answer', 'RPC endpoint answered no logs');
}

/** In the order of the chain. */
export function inChainOrder(
  a: { readonly blockNumber: number; readonly logIndex: number },
  b: { readonly blockNumber: number; readonly logIndex: number },
): number {
  return a.blockNumber - b.blockNumber || a.logIndex - b.logIndex;
}
