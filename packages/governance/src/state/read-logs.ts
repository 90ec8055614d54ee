import type { AbiEvent, Address, GetLogsReturnType, PublicClient } from 'viem';
import { GovernanceError } from '../errors.ts';
import { isUnanswered, unreachable } from './absent.ts';

/** What public endpoints usually grant at once. */
const MAX_BLOCKS = 10_000n;
/** More than governance of any size leaves behind; an endpoint must not fill the memory. */
const MAX_LOGS = 50_000;

/** Decoded logs of these events, in the order of the chain. */
export type EventLogs<events extends readonly AbiEvent[]> = GetLogsReturnType<
  undefined,
  events,
  true,
  bigint,
  bigint
>;

/**
 * Logs of some contracts between two blocks, both included. Endpoints refuse long ranges in many words, so that a refused
 * one is halved, down to one block.
 * @throws GovernanceError `chain-unreachable`, `too-much`
 */
export async function readLogs<const events extends readonly AbiEvent[]>(
  client: PublicClient,
  query: { address: Address[]; events: events; fromBlock: bigint; toBlock: bigint },
): Promise<EventLogs<events>> {
  const { address, events, toBlock } = query;
  const found: unknown[] = [];
  let step = MAX_BLOCKS;
  for (let from = query.fromBlock; from <= toBlock; ) {
    const to = from + step - 1n > toBlock ? toBlock : from + step - 1n;
    try {
      const range = { address, events, strict: true, fromBlock: from, toBlock: to } as const;
      found.push(...(await client.getLogs(range)));
    } catch (error) {
      // An endpoint that says nothing is not asked a dozen times for less.
      if (isUnanswered(error)) throw unreachable(error);
      if (step === 1n) {
        throw new GovernanceError('chain-unreachable', `The endpoint gives no logs of block ${from}`);
      }
      step /= 2n;
      continue;
    }
    if (found.length > MAX_LOGS) {
      throw new GovernanceError('too-much', `More than ${MAX_LOGS} events since block ${query.fromBlock}`, {
        hint: 'Name a later block to read from',
      });
    }
    from = to + 1n;
  }
  return found as EventLogs<events>;
}
