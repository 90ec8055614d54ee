import type { ContractState } from '../state/read-contract-state.ts';
import { durationText, timeText } from '../words/sentences.ts';
import type { HealthFacts, HealthRow } from './health-row.ts';

/** Does the contract itself hold back whoever owns it, and since when? */
export function policyDelayRow(
  name: string,
  { policyDelay, policyDelaySince = 0n }: ContractState,
  { governance, isProduction }: Pick<HealthFacts, 'governance' | 'isProduction'>,
): HealthRow {
  const check = 'policy-delay';
  if (policyDelay === undefined || policyDelay === 0n) {
    const why = policyDelay === undefined ? 'its code has no policy delay' : 'no policy delay is set';
    return {
      ...{ check, level: isProduction ? 'warning' : 'ok' },
      text: `${name}: ${why}: only its owner holds an addition back, and a KMS with require_timelock allows nothing by it`,
    };
  }
  const found = durationText(policyDelay);
  if (policyDelaySince === 0n) {
    return {
      ...{ check, level: 'critical', found },
      text: `${name}: other code ruled since its policy delay of ${found} was set: find out whose, then set the delay again`,
    };
  }
  const counts = policyDelaySince + policyDelay;
  if (counts > governance.block.timestamp) {
    return {
      ...{ check, level: 'warning', found },
      text: `${name}: its policy delay of ${found} is recent: a KMS with require_timelock counts it from ${timeText(counts)}`,
    };
  }
  return { check, level: 'ok', text: `${name}: every addition is public for ${found} before it counts` };
}
