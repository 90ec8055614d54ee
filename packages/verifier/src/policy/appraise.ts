import { type AppraisalResult, appraiseTcb, type TcbPolicy } from '@dstack-cloud/attestation';
import { toHex } from '@dstack-cloud/encoding';
import type { Findings } from '../findings/findings.ts';
import type { Expectations } from './expectations.ts';

/** What this relying party demands beside genuine evidence. */
export interface VerifierPolicy extends TcbPolicy {
  /** Values by name: members of app_info, registers, `mode`; hex. A name or value that is not understood is an error. */
  readonly expect?: Readonly<Record<string, string>>;
}

/** One expectation, held against verified evidence. */
export interface Comparison {
  readonly name: string;
  readonly ok: boolean;
  readonly expected: string;
  /** Null when the evidence has nothing of this name. */
  readonly found: string | null;
}

/** What the policy says of good evidence. */
export interface PolicyFindings {
  /** Both parts together. */
  readonly policy: AppraisalResult;
  /** The part about patch levels. */
  readonly tcb: AppraisalResult;
  readonly comparisons: readonly Comparison[];
}

/** Modes without a TCB level of their own: nothing to accept or refuse. */
const WITHOUT_STATUS: readonly string[] = ['dstack-nitro-enclave', 'nitro-enclave', 'gcp-vtpm'];

/** Appraises verified evidence by the local policy. @param now unix seconds */
export function appraise(
  mode: string,
  findings: Findings,
  policy: TcbPolicy,
  expectations: Expectations,
  now: number,
): PolicyFindings {
  const tcb = appraiseTcb(
    {
      mode: WITHOUT_STATUS.includes(mode) ? 'dstack-nitro-enclave' : mode,
      tcbStatus: findings.tcbStatus,
      advisoryIds: findings.advisoryIds,
      ...(findings.tcbEvaluationDataNumber === undefined
        ? {}
        : { tcbEvaluationDataNumber: findings.tcbEvaluationDataNumber }),
      ...(findings.tcbDate === undefined ? {} : { tcbDate: findings.tcbDate }),
      snp: findings.snp,
    },
    policy,
    now,
  );
  const comparisons = compare(mode, findings, expectations);
  const unmet = comparisons
    .filter(({ ok }) => !ok)
    .map(
      ({ name, expected, found }) => `${name} is ${found ?? 'not in this evidence'}, expected ${expected}`,
    );
  const reasons = [...tcb.reasons, ...unmet];
  return { policy: { ok: reasons.length === 0, reasons }, tcb, comparisons };
}

function compare(mode: string, findings: Findings, expectations: Expectations): Comparison[] {
  const known = new Map<string, string>([
    ...Object.entries(findings.registers).map(([name, value]): [string, string] => [name, toHex(value)]),
    ...Object.entries(findings.appInfo ?? {}).filter(
      (entry): entry is [string, string] => typeof entry[1] === 'string',
    ),
    ['mode', mode],
  ]);
  return Object.entries(expectations).map(([name, expected]) => {
    const found = known.get(name) ?? null;
    return { name, ok: found === expected, expected, found };
  });
}
