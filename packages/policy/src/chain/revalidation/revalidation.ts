import type { ContractDecision, DecisionRequest } from '../decision-reader.ts';
import type { Block } from '../rpc/block.ts';
import type { ChainSnapshot } from '../snapshot/read-snapshot.ts';

/** Permissions that hold at a block, by call. */
type Permissions = ReadonlyMap<string, ContractDecision>;

/**
 * Finds out which of the requests, all permitted at `from`, are permitted at `to`: a block of the snapshot, and not
 * always a descendant of `from`. What is not in the answer is not known.
 * @throws PolicyError when nothing can be found out
 */
export type Revalidation = (
  snapshot: ChainSnapshot,
  from: Block,
  to: Block,
  requests: readonly DecisionRequest[],
) => Promise<Permissions>;
