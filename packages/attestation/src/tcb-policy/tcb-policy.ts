import type { TcbStatus } from '../tcb-status.ts';
import { date } from '../x509/certificate-rules.ts';
import { appraiseSnp, type SnpLevel, type SnpPolicy } from './snp-policy.ts';

/** Local policy on a platform's patch level; it never touches evidence. */
export interface TcbPolicy {
  /** Default: UpToDate only. */
  readonly acceptedStatuses?: readonly TcbStatus[];
  /** Advisories that are accepted; absent: any, as long as the status is accepted. */
  readonly acceptedAdvisories?: readonly string[];
  readonly minimumTcbEvaluationDataNumber?: number;
  /** Accept OutOfDate levels for so many seconds after their tcbDate; default 0. */
  readonly gracePeriodSeconds?: number;
  readonly snp?: SnpPolicy | undefined;
}

/** What the policy looks at. */
export interface TcbPolicyInput {
  readonly mode: string;
  readonly tcbStatus: string;
  readonly advisoryIds: readonly string[];
  readonly tcbEvaluationDataNumber?: number;
  /** Unix seconds: date of the platform's level. */
  readonly tcbDate?: number;
  /** Of SEV-SNP evidence. */
  readonly snp?: SnpLevel | undefined;
}

export interface AppraisalResult {
  readonly ok: boolean;
  /** One sentence per rule that is not met. */
  readonly reasons: readonly string[];
}

const OUT_OF_DATE: readonly string[] = ['OutOfDate', 'OutOfDateConfigurationNeeded'];
/** A Nitro enclave has no TCB report: its status is the empty string (docs/protocol/verification.md section 5). */
const WITHOUT_STATUS: readonly string[] = ['dstack-nitro-enclave'];
const SNP_MODES: readonly string[] = ['dstack-amd-sev-snp', 'amd-sev-snp'];

/**
 * Whether the patch level is good enough here.
 * @param now unix seconds
 */
export function appraiseTcb(input: TcbPolicyInput, policy: TcbPolicy, now: number): AppraisalResult {
  const reasons = [...appraiseStatus(input, policy, now), ...appraiseAdvisories(input, policy)];
  reasons.push(...appraisePlatform(input, policy));
  const minimum = policy.minimumTcbEvaluationDataNumber;
  const number = input.tcbEvaluationDataNumber;
  if (
    minimum !== undefined &&
    !WITHOUT_STATUS.includes(input.mode) &&
    !(number !== undefined && number >= minimum)
  ) {
    reasons.push(`TCB evaluation data number ${number ?? 'unknown'} is below ${minimum}`);
  }
  return { ok: reasons.length === 0, reasons };
}

function appraiseStatus(input: TcbPolicyInput, policy: TcbPolicy, now: number): string[] {
  const { tcbStatus, tcbDate } = input;
  const accepted: readonly string[] = policy.acceptedStatuses ?? ['UpToDate'];
  if (accepted.includes(tcbStatus)) return [];
  if (tcbStatus === '' && WITHOUT_STATUS.includes(input.mode)) return [];
  const grace = policy.gracePeriodSeconds ?? 0;
  if (grace > 0 && OUT_OF_DATE.includes(tcbStatus) && tcbDate !== undefined) {
    const end = tcbDate + grace;
    if (now <= end) return [];
    return [`TCB status ${tcbStatus}: the grace period ended ${date(end)}`];
  }
  return [`TCB status ${tcbStatus || 'unknown'} is not accepted (accepted: ${accepted.join(', ')})`];
}

function appraiseAdvisories(input: TcbPolicyInput, policy: TcbPolicy): string[] {
  const accepted = policy.acceptedAdvisories;
  if (!accepted) return [];
  const unaccepted = input.advisoryIds.filter((id) => !accepted.includes(id));
  return unaccepted.length === 0 ? [] : [`Advisories ${unaccepted.join(', ')} are not accepted`];
}

/** SEV-SNP evidence whose platform is not told is not accepted: the rules would be passed over. */
function appraisePlatform({ mode, snp }: TcbPolicyInput, policy: TcbPolicy): readonly string[] {
  if (snp !== undefined) return appraiseSnp(snp, policy.snp ?? {});
  return SNP_MODES.includes(mode) ? ['The SEV-SNP platform is unknown'] : [];
}
