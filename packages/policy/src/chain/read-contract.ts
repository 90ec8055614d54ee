import type { ChainSettings } from './chain-options.ts';
import type { Block } from './rpc/block.ts';
import { type CallResult, callResult, callsAt, Reverted, resultsKey } from './rpc/pinned-calls.ts';
import { agreeing, collectVotes, noQuorum } from './rpc/quorum.ts';
import type { RpcEndpoint } from './rpc/rpc-endpoint.ts';

/**
 * Call one contract several times at one block and return what at least `quorum` endpoints answer alike.
 * @throws PolicyError `chain-no-quorum`, or the only endpoint's own error
 */
export async function readContract(
  endpoints: readonly RpcEndpoint[],
  { quorum, failures }: Pick<ChainSettings, 'quorum' | 'failures'>,
  block: Block,
  contract: string,
  calls: readonly string[],
): Promise<readonly CallResult[]> {
  const objects = calls.map((data) => ({ to: contract, data }));
  const ask = (endpoint: RpcEndpoint): Promise<CallResult[]> =>
    failures.during(endpoint, async () => (await callsAt(endpoint, block, objects)).map(callResult));
  const votes = await collectVotes(endpoints, quorum, ask, { sameness: resultsKey });
  const same = agreeing(votes, quorum, resultsKey);
  const [first] = same ?? [];
  if (!same || !first) throw noQuorum();
  return first.value.map((result, index) =>
    typeof result === 'string'
      ? result
      : agreedReason(
          same.map(({ value }) => value[index]),
          quorum,
        ),
  );
}

/** Endpoints agree that the call reverted. What they say about it is believed of as many, and else not shown. */
function agreedReason(results: readonly (CallResult | undefined)[], quorum: number): Reverted {
  const reasons = results.map((result) => (result instanceof Reverted ? result.reason : ''));
  const agreed = reasons.find(
    (reason) => reason !== '' && reasons.filter((other) => other === reason).length >= quorum,
  );
  return new Reverted(agreed ?? '');
}
