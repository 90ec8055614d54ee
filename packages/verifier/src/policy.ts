import { judgeTcb, type PolicyVerdict, type TcbPolicy } from '@dstack-cloud/attestation';
import { toHex } from '@dstack-cloud/encoding';
import type { Findings } from './judge/findings.ts';

/** What this relying party demands beside genuine evidence. */
export interface VerifierPolicy extends TcbPolicy {
  /** Values by name: members of app_info, registers, `mode`; hex in lower case. */
  readonly expect?: Readonly<Record<string, string>>;
}

/** Modes without a TCB level of their own: nothing to accept or refuse. */
const WITHOUT_STATUS: readonly string[] = ['dstack-nitro-enclave', 'nitro-enclave', 'gcp-vtpm'];

/** Judges good evidence by the local policy. @param now unix seconds */
export function judgePolicy(
  mode: string,
  findings: Findings,
  policy: VerifierPolicy,
  now: number,
): PolicyVerdict {
  const tcb = judgeTcb(
    {
      mode: WITHOUT_STATUS.includes(mode) ? 'dstack-nitro-enclave' : mode,
      tcbStatus: findings.tcbStatus,
      advisoryIds: findings.advisoryIds,
      ...(findings.tcbEvaluationDataNumber === undefined
        ? {}
        : { tcbEvaluationDataNumber: findings.tcbEvaluationDataNumber }),
      ...(findings.tcbDate === undefined ? {} : { tcbDate: findings.tcbDate }),
    },
    policy,
    now,
  );
  const reasons = [...tcb.reasons, ...unmet(mode, findings, policy.expect ?? {})];
  return { ok: reasons.length === 0, reasons };
}

function unmet(mode: string, findings: Findings, expect: Readonly<Record<string, string>>): string[] {
  const known: Record<string, string> = {
    ...Object.fromEntries(Object.entries(findings.registers).map(([name, value]) => [name, toHex(value)])),
    ...Object.fromEntries(
      Object.entries(findings.appInfo ?? {}).filter(([, value]) => typeof value === 'string'),
    ),
    mode,
  };
  return Object.entries(expect).flatMap(([name, expected]) => {
    const found = known[name];
    if (found !== undefined && found.toLowerCase() === expected.toLowerCase()) return [];
    return [`${name} is ${found ?? 'not in this evidence'}, expected ${expected}`];
  });
}
