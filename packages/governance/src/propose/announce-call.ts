import { dstackKmsAbi } from '@dstack-cloud/contracts';
import { encodeFunctionData } from 'viem';
import type { Call } from '../timelock/operation.ts';

/** The call that makes another one public in its contract, so that it can be made after the contract's policy delay. */
export function announceCall({ to, data }: Call): Call {
  return {
    ...{ to, value: 0n },
    data: encodeFunctionData({ abi: dstackKmsAbi, functionName: 'announce', args: [data] }),
  };
}
