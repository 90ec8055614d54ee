import type { Address, Hex, PublicClient } from 'viem';
import { explainFailure } from './explain-revert.ts';

/**
 * Gas for a call, a quarter above the estimate. An estimate is made at the time of the last block: what is written there twice
 * in one second costs little, and in the next block it costs more.
 */
export async function gasFor(
  client: Pick<PublicClient, 'estimateGas'>,
  call: { account: Address; to: Address; value?: bigint; data: Hex },
): Promise<bigint> {
  const estimate = await client.estimateGas(call).catch((error: unknown) => {
    throw explainFailure(error);
  });
  return estimate + estimate / 4n;
}
