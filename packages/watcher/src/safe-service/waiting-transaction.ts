import type { Proposal } from '@dstack-cloud/governance';

/** A transaction of a Safe that its signers have not executed yet. */
export type WaitingTransaction = {
  /** Lower-case address. */
  readonly safe: string;
  readonly hash: string;
  readonly tx: Proposal['tx'];
  /** Owners whose signature was checked, lower-case. */
  readonly signers: readonly string[];
  /** Owners who approved it on the chain, lower-case. */
  readonly approvedBy: readonly string[];
  /** Unix seconds: when this program first saw it. */
  readonly since: number;
};
