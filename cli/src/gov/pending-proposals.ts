import {
  ownersAmong,
  type Proposal,
  proposalHash,
  readApprovals,
  type SafeState,
} from '@dstack-cloud/governance';
import { type Address, type Hex, isAddressEqual } from 'viem';
import type { GovSession, GovView } from './connect-gov.ts';
import { localProposals } from './local-proposals.ts';

/** A proposal that waits at the Safe transaction service, or in a file. */
export type PendingProposal = {
  readonly proposal: Proposal;
  readonly hash: Hex;
  readonly safe: SafeState;
  /** Owners that signed it, or approved it on chain. */
  readonly signers: readonly Address[];
  /** Where it is on this machine; undefined when only the service has it. */
  readonly path: string | undefined;
  /** The transaction service has it, with the signature or approval of an owner: all signers see it. */
  readonly isShared: boolean;
  /** Another one has the same nonce: one of the two can be executed. */
  readonly hasRival: boolean;
};

type Found = Omit<PendingProposal, 'hasRival'>;

/** Proposals without a signature whose approvals on chain are looked up: a service could make up any number of them. */
const MAX_UNSIGNED = 20;

/**
 * What waits for the Safes of the domain, at the transaction service and in the files of a folder. What the service has and no
 * owner has signed or approved is nobody's proposal: a service could make it up. A file is the operator's own.
 * @param folders where proposals are looked for (default: the folder of the command)
 */
export async function pendingProposals(
  session: Pick<GovSession, 'client' | 'service' | 'path'>,
  { governance }: GovView,
  folders: readonly string[] = [session.path('.')],
): Promise<PendingProposal[]> {
  const found: Found[] = [];
  const files = await localProposals(folders);
  for (const principal of governance.principals.values()) {
    if (principal.kind !== 'safe') continue;
    const { safe } = principal;
    const here = new Map(
      files
        .filter(
          ({ proposal: { chainId, safe: of, tx } }) =>
            chainId === governance.chainId && isAddressEqual(of, safe.address) && tx.nonce >= safe.nonce,
        )
        .map((one) => [proposalHash(one.proposal), one]),
    );
    const pending = (await session.service(safe.address)?.pending(safe.address, safe.nonce)) ?? [];
    const atService = new Map(pending.map((proposal) => [proposalHash(proposal), proposal]));
    let unsigned = 0;
    for (const hash of new Set([...atService.keys(), ...here.keys()])) {
      const file = here.get(hash);
      const both = [atService.get(hash), file?.proposal].filter((one) => one !== undefined);
      const signatures = [...new Set(both.flatMap((one) => one.signatures))];
      const signed = await ownersAmong(safe, hash, signatures);
      if (signed.length === 0 && file === undefined) {
        unsigned += 1;
        if (unsigned > MAX_UNSIGNED) continue;
      }
      const approved = await readApprovals(session.client, safe, hash);
      const signers = safe.owners.filter((owner) =>
        [...signed, ...approved].some((one) => isAddressEqual(one, owner)),
      );
      const isShared = signers.length > 0 && atService.has(hash);
      if (isShared || file !== undefined)
        found.push({
          proposal: { ...both[0]!, signatures },
          hash,
          safe,
          signers,
          path: file?.path,
          isShared,
        });
    }
  }
  const isRival = (one: Found, other: Found): boolean =>
    one !== other && one.safe === other.safe && one.proposal.tx.nonce === other.proposal.tx.nonce;
  return found.map((one) => ({ ...one, hasRival: found.some((other) => isRival(one, other)) }));
}
