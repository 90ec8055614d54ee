import { type Hex, keccak256, toHex, zeroHash } from 'viem';

/** What an account may do in a Timelock. */
export type TimelockRole = 'proposer' | 'canceller' | 'executor' | 'admin';

/** Ids of the roles (OpenZeppelin TimelockController 5, AccessControl). */
export const roleIds: Readonly<Record<TimelockRole, Hex>> = {
  proposer: keccak256(toHex('PROPOSER_ROLE')),
  canceller: keccak256(toHex('CANCELLER_ROLE')),
  executor: keccak256(toHex('EXECUTOR_ROLE')),
  admin: zeroHash,
};

/** Name of a role, or undefined for one that no Timelock has. */
export function roleOf(id: Hex): TimelockRole | undefined {
  const found = Object.entries(roleIds).find(([, known]) => known === id.toLowerCase());
  return found?.[0] as TimelockRole | undefined;
}
