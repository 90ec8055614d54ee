import { type Address, parseAbi } from 'viem';
import { ContractsError } from '../errors.ts';
import type { TaskChain } from './connect-task.ts';

const abi = parseAbi([
  'function owner() view returns (address)',
  'function getMinDelay() view returns (uint256)',
  'function getThreshold() view returns (uint256)',
]);

/** A refusal because the caller is not the owner, with who that is and how it is asked; another error as it is. */
export async function nameOwner(chain: TaskChain, contract: Address, error: unknown): Promise<unknown> {
  if (!(error instanceof ContractsError) || !/caller is (not the owner|neither)/.test(error.message))
    return error;
  const read = async (
    address: Address,
    functionName: 'owner' | 'getMinDelay' | 'getThreshold',
  ): Promise<unknown> =>
    await chain.public.readContract({ address, abi, functionName }).catch(() => undefined);
  const owner = (await read(contract, 'owner')) as Address | undefined;
  if (owner === undefined) return error;
  const code = await chain.public.getCode({ address: owner }).catch(() => undefined);
  const said = (hint: string): ContractsError => new ContractsError(error.code, error.message, { hint });
  if (code === undefined || code === '0x') return said(`The owner is the account ${owner}: use its key`);
  const how = 'propose it with dstack-cloud gov propose';
  const delay = await read(owner, 'getMinDelay');
  if (delay !== undefined) {
    return said(
      `The owner is the Timelock ${owner}, with a delay of ${delay} s: ${how}, or print what its proposers send with --timelock ${owner}`,
    );
  }
  const threshold = await read(owner, 'getThreshold');
  if (threshold !== undefined) {
    return said(
      `The owner is the Safe ${owner}, with ${threshold} signatures: ${how}, or print a batch for it with --safe ${owner}`,
    );
  }
  return said(`The owner is the contract ${owner}: it has to make the call`);
}
