import {
  ownersAmong,
  type Proposal,
  proposalHash,
  readApprovals,
  type SafeState,
} from '@dstack-cloud/governance';
import { type Address, type Hex, isAddressEqual } from 'viem';
import type { GovSession, GovView } from './connect-gov.ts';

/** A proposal that waits at the Safe transaction service. */
export type PendingProposal = {
  readonly proposal: Proposal;
  readonly hash: Hex;
  readonly safe: SafeState;
  /** Owners that signed it, or approved it on chain. */
  readonly signers: readonly Address[];
  /** Another one has the same nonce: one of the two can be executed. */
  readonly hasRival: boolean;
};

/** Proposals without a signature whose approvals on chain are looked up: a service could make up any number of them. */
const MAX_UNSIGNED = 20;

/**
 * What waits at the transaction service for the Safes of the domain; nothing without a service. What no owner has signed or
 * approved is nobody's proposal: a service could make it up.
 */
export async function pendingProposals(
  session: Pick<GovSession, 'client' | 'service'>,
  { governance }: GovView,
): Promise<PendingProposal[]> {
  const found: Omit<PendingProposal, 'hasRival'>[] = [];
  for (const principal of governance.principals.values()) {
    if (principal.kind !== 'safe') continue;
    const { safe } = principal;
    const pending = (await session.service(safe.address)?.pending(safe.address, safe.nonce)) ?? [];
    let unsigned = 0;
    for (const proposal of pending) {
      const hash = proposalHash(proposal);
      const signed = await ownersAmong(safe, hash, proposal.signatures);
      if (signed.length === 0) unsigned += 1;
      if (unsigned > MAX_UNSIGNED && signed.length === 0) continue;
      const approved = await readApprovals(session.client, safe, hash);
      const signers = safe.owners.filter((owner) =>
        [...signed, ...approved].some((one) => isAddressEqual(one, owner)),
      );
      if (signers.length > 0) found.push({ proposal, hash, safe, signers });
    }
  }
  const isRival = (
    one: Omit<PendingProposal, 'hasRival'>,
    other: Omit<PendingProposal, 'hasRival'>,
  ): boolean => one !== other && one.safe === other.safe && one.proposal.tx.nonce === other.proposal.tx.nonce;
  return found.map((one) => ({ ...one, hasRival: found.some((other) => isRival(one, other)) }));
}
