import type { DecisionFailure } from '../policy.ts';

/** Something the operator's log should have. Addresses are scheme and host only. */
export type ChainEvent =
  | {
      readonly type: 'endpoint-failed';
      readonly endpoint: string;
      readonly message: string;
      /** Failures of this endpoint since the last such event; it is told of at most once in ten seconds. */
      readonly times: number;
    }
  /** Workloads were refused although nothing was said against them. */
  | {
      readonly type: 'undecided';
      readonly failure: DecisionFailure;
      readonly message: string;
      /** Since the last such event; it is told at most once in ten seconds. */
      readonly times: number;
    }
  /** An endpoint lacks a feature that most have; the policy falls back to doing without. */
  | { readonly type: 'endpoint-lacks'; readonly endpoint: string; readonly what: string }
  | { readonly type: 'block'; readonly number: bigint; readonly lagSeconds: number };
