import {
  mergeProposals,
  ownersAmong,
  type Proposal,
  proposalHash,
  readApprovals,
  type SafeState,
} from '@dstack-cloud/governance';
import { type Address, type Hex, isAddressEqual } from 'viem';
import type { GovSession, GovView } from './connect-gov.ts';
import { type LocalProposal, localProposals } from './local-proposals.ts';

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

/** Proposals without a signature whose approvals on chain are looked up: anybody could make up any number of them. */
const MAX_UNSIGNED = 20;
/** Signatures of a file that are looked at, for each owner: there may be some of owners who were replaced. */
const MAX_PER_OWNER = 2;

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
  const { proposals: files } = await localProposals(folders);
  for (const principal of governance.principals.values()) {
    if (principal.kind !== 'safe') continue;
    const { safe } = principal;
    const here = byHash(
      files.filter(
        ({ proposal: { chainId, safe: of, tx } }) =>
          chainId === governance.chainId && isAddressEqual(of, safe.address) && tx.nonce >= safe.nonce,
      ),
      MAX_PER_OWNER * safe.owners.length,
    );
    const pending = (await session.service(safe.address)?.pending(safe.address, safe.nonce)) ?? [];
    const atService = new Map(pending.map((proposal) => [proposalHash(proposal), proposal]));
    let unsigned = 0;
    for (const hash of new Set([...atService.keys(), ...here.keys()])) {
      const file = here.get(hash);
      const both = [atService.get(hash), file?.proposal].filter((one) => one !== undefined);
      const signatures = [...new Set(both.flatMap((one) => one.signatures))];
      const signed = await ownersAmong(safe, hash, signatures);
      if (signed.length === 0) unsigned += 1;
      const isLookedUp = signed.length > 0 || unsigned <= MAX_UNSIGNED;
      const approved = isLookedUp ? await readApprovals(session.client, safe, hash) : [];
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

/** Copies of one proposal are one, with the signatures of all: none hides what another one has. */
function byHash(files: readonly LocalProposal[], maxSignatures: number): Map<Hex, LocalProposal> {
  const found = new Map<Hex, LocalProposal>();
  for (const { path, proposal } of files) {
    const hash = proposalHash(proposal);
    const own = { ...proposal, signatures: proposal.signatures.slice(0, maxSignatures) };
    const before = found.get(hash);
    found.set(
      hash,
      before === undefined
        ? { path, proposal: own }
        : { path: before.path, proposal: mergeProposals(before.proposal, own) },
    );
  }
  return found;
}
