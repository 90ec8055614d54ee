import type { ContractState } from '../state/read-contract-state.ts';
import { durationText, timeText } from '../words/sentences.ts';
import type { HealthFacts, HealthRow } from './health-row.ts';

/** Does the contract itself hold back whoever owns it, and since when? */
export function policyDelayRow(
  name: string,
  { address, policyDelay, policyDelaySince = 0n }: ContractState,
  {
    governance,
    isProduction,
    requiredDelay,
  }: Pick<HealthFacts, 'governance' | 'isProduction' | 'requiredDelay'>,
): HealthRow {
  const check = 'policy-delay';
  if (requiredDelay !== undefined) {
    const { seconds, since } = requiredDelay;
    const held = since.get(address.toLowerCase()) ?? 0n;
    const expected = durationText(seconds);
    if (held === 0n) {
      return {
        ...{ check, level: 'critical', expected, found: durationText(policyDelay ?? 0n) },
        text: `${name}: the key service demands a policy delay of ${expected} (require_timelock), so that it allows nothing by this contract: set the delay with set-policy-delay`,
      };
    }
    if (held + seconds > governance.block.timestamp) {
      return {
        ...{ check, level: 'critical', expected, found: durationText(governance.block.timestamp - held) },
        text: `${name}: its policy delay has not held for ${expected} yet: the key service (require_timelock) allows nothing by it before ${timeText(held + seconds)}`,
      };
    }
  }
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
