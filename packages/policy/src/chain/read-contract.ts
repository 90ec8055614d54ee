import { type CallResult, callResult, callsAt } from './rpc/pinned-calls.ts';
import { agreeing, collectVotes, noQuorum } from './rpc/quorum.ts';
import type { RpcEndpoint } from './rpc/rpc-endpoint.ts';
import type { Block } from './view/block.ts';

/**
 * Call one contract several times at one block and return what at least `quorum` endpoints answer alike.
 * @throws PolicyError `chain-no-quorum`, or the only endpoint's own error
 */
export async function readContract(
  endpoints: readonly RpcEndpoint[],
  quorum: number,
  block: Block,
  contract: string,
  calls: readonly string[],
): Promise<readonly CallResult[]> {
  const objects = calls.map((data) => ({ to: contract, data }));
  const votes = await collectVotes(endpoints, quorum, async (endpoint) =>
    (await callsAt(endpoint, block, objects)).map(callResult),
  );
  const same = agreeing(votes, quorum, (results) => JSON.stringify(results));
  if (!same?.[0]) throw noQuorum();
  return same[0].value;
}
