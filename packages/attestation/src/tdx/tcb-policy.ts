import { AttestationError } from '../errors.ts';
import type { TcbStatus } from './tcb-status.ts';

/** Local policy on a platform's patch level (chapter 20 section 10 point 11); it never touches evidence. */
export interface TcbPolicy {
  /** Default: UpToDate only. */
  readonly acceptedStatuses?: readonly TcbStatus[];
  /** Advisories that are accepted; absent: any, as long as the status is accepted. */
  readonly acceptedAdvisories?: readonly string[];
  readonly minimumTcbEvaluationDataNumber?: number;
  /** Accept an OutOfDate level for so many seconds after its tcbDate. */
  readonly gracePeriodSeconds?: number;
}

/** What the policy looks at. */
export interface TcbPolicyInput {
  readonly mode: string;
  readonly tcbStatus: string;
  readonly advisoryIds: readonly string[];
  readonly tcbEvaluationDataNumber?: number;
  readonly tcbDate?: number;
}

export interface PolicyVerdict {
  readonly ok: boolean;
  readonly reasons: readonly string[];
}

/** @param now unix seconds */
export function judgeTcb(_input: TcbPolicyInput, _policy: TcbPolicy, _now: number): PolicyVerdict {
  throw new AttestationError('unsupported', 'not available');
}
