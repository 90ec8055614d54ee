import type { Address, Hex, PublicClient } from 'viem';
import { unreachable } from '../state/absent.ts';
import type { SafeState } from './read-safe.ts';
import { safeAbi } from './safe-abi.ts';

/** Owners that approved this hash on chain, by `approveHash`. */
export async function readApprovals(
  client: PublicClient,
  { address, owners }: Pick<SafeState, 'address' | 'owners'>,
  hash: Hex,
): Promise<Address[]> {
  const read = { address, abi: safeAbi, functionName: 'approvedHashes' } as const;
  const approved = await Promise.all(
    owners.map((owner) => client.readContract({ ...read, args: [owner, hash] })),
  ).catch((error: unknown) => {
    throw unreachable(error);
  });
  return owners.filter((_, index) => approved[index] !== 0n);
}
