import type { BootInfo } from '@dstack-cloud/attestation';
import type { BootKind } from '../policy.ts';
import type { Block } from './rpc/block.ts';
import type { ChainSnapshot } from './snapshot/read-snapshot.ts';

/** What the contracts say about a workload at one block. */
export type ContractDecision = {
  readonly allowed: boolean;
  /** Why not; empty when allowed. */
  readonly reason: string;
  /** What DstackKms names at the same block. */
  readonly gatewayAppId: string;
};

/** A question to the contracts. */
export type DecisionRequest = {
  readonly kind: BootKind;
  /** Checked: every field has its length. */
  readonly info: BootInfo;
  /** Call data of `isAppAllowed` or `isKmsAllowed`, 0x hex; the same text exactly for the same question. */
  readonly call: string;
};

/**
 * A way to learn a decision at exactly this block from the endpoints of the snapshot, a quorum of which must agree or be
 * proven right. Never answers from another block.
 * @throws PolicyError when it cannot be learned; never an answer in doubt
 */
export type DecisionReader = (
  snapshot: ChainSnapshot,
  block: Block,
  request: DecisionRequest,
) => Promise<ContractDecision>;
