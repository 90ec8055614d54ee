import { dstackKmsAbi } from '@dstack-cloud/contracts';
import type { ChainSnapshot } from '@dstack-cloud/policy/following';
import { encodeFunctionData, type Hex, zeroHash } from 'viem';
import type { ChainReader } from '../chain/chain-reader.ts';
import { announcedCalls } from '../model/announced-calls.ts';
import type { GovernanceModel } from '../model/governance-model.ts';

/** Asked about at once. A contract has at most 64 announced calls, and only contracts of ours are asked. */
const MAX_ASKED = 64;
const WORD = /^0x[0-9a-f]{64}$/;

/**
 * Takes announced calls out of the model that the owner has made: no event says so, but the contract remembers only
 * those that can still be made.
 */
export async function forgetMadeCalls(
  reader: ChainReader,
  view: ChainSnapshot,
  model: GovernanceModel,
  kms: Hex,
  isListed: (address: string) => boolean,
): Promise<void> {
  const all = announcedCalls(model, kms, view.finalized.timestamp, isListed);
  for (let start = 0; start < all.length; start += MAX_ASKED) {
    const pending = all.slice(start, start + MAX_ASKED);
    const answers = await reader.calls(
      view,
      view.finalized,
      pending.map(({ contract, callHash }) => ({
        to: contract as Hex,
        data: encodeFunctionData({
          abi: dstackKmsAbi,
          functionName: 'announcedAt',
          args: [callHash as Hex],
        }),
      })),
    );
    pending.forEach(({ contract, callHash }, index) => {
      // Code without announcements has none that could be made.
      if (WORD.test(answers[index] ?? '') && answers[index] !== zeroHash) return;
      const ruled = contract === kms ? model.kms : model.apps.get(contract);
      ruled?.announced.delete(callHash);
    });
  }
}
