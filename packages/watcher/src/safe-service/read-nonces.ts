import { safeAbi } from '@dstack-cloud/governance';
import { encodeFunctionData, type Hex } from 'viem';
import type { ChainReader } from '../chain/chain-reader.ts';

const NONCE = encodeFunctionData({ abi: safeAbi, functionName: 'nonce' });
const WORD = /^0x[0-9a-f]{64}$/;

/** The next nonce of each Safe; undefined for what does not answer as a Safe does. */
export async function readNonces(
  reader: ChainReader,
  safes: readonly string[],
): Promise<readonly (bigint | undefined)[]> {
  if (safes.length === 0) return [];
  const view = await reader.view();
  const answers = await reader.calls(
    view,
    view.finalized,
    safes.map((to) => ({ to: to as Hex, data: NONCE })),
  );
  return answers.map((answer) => (WORD.test(answer ?? '') ? BigInt(answer!) : undefined));
}
