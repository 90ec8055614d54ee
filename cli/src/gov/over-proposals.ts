import { type Proposal, proposalHash } from '@dstack-cloud/governance';
import { isAddressEqual } from 'viem';
import type { GovSession, GovView } from './connect-gov.ts';
import { localProposals } from './local-proposals.ts';

/** Files of proposals that are over, and how many files were not looked at. */
export async function overProposals(
  session: Pick<GovSession, 'path'>,
  { governance }: GovView,
): Promise<{ over: { path: string; hash: string; nonce: bigint }[]; filesLeftOut: number }> {
  const { proposals, filesLeftOut } = await localProposals([session.path('.')]);
  const safes = [...governance.principals.values()].flatMap((one) => (one.kind === 'safe' ? [one.safe] : []));
  const isOver = ({ chainId, safe, tx }: Proposal): boolean =>
    chainId === governance.chainId &&
    safes.some(({ address, nonce }) => isAddressEqual(address, safe) && tx.nonce < nonce);
  const over = proposals
    .filter(({ proposal }) => isOver(proposal))
    .map(({ path, proposal }) => ({ path, hash: proposalHash(proposal), nonce: proposal.tx.nonce }))
    // The latest first.
    .sort((one, other) => Number(other.nonce - one.nonce));
  return { over, filesLeftOut };
}
