/** A contract whose policy can be loosened only after a delay, as `require_timelock` demands it. */
import type { CodeName } from './known-code.ts';

/** Whose contract it is, in the words of refusals. */
export type DelayedContract = 'KMS' | 'App';

/** DstackKms and DstackApp allow no delay to be longer. */
export const MAX_POLICY_DELAY_SECONDS: number = 30 * 86_400;

/** Code that enforces a delay and says truthfully since when. */
const delayingCode: ReadonlySet<CodeName> = new Set(['dstack-kms-3.1', 'dstack-app-3.1']);

/** Whether contracts with this code can have a delay. */
export function enforcesDelay(code: CodeName): boolean {
  return delayingCode.has(code);
}

/** The refusal for code that cannot have one. */
export function noDelayCode(contract: DelayedContract, code: CodeName): string {
  return `${contract} contract cannot have a policy delay (${code})`;
}

/**
 * Why a contract does not satisfy a demanded delay; undefined if it does.
 * @param since from when on each loosening was public for at least `required` seconds, unix time; 0 for not
 * @param time of the block, unix seconds
 */
export function delayDenial(
  contract: DelayedContract,
  required: number,
  since: bigint,
  time: number,
): string | undefined {
  if (since === 0n) return `${contract} contract has no policy delay of ${required} s`;
  // What was there when the delay was set may have come a moment before.
  const end = since + BigInt(required);
  if (BigInt(time) >= end) return undefined;
  return `${contract} contract has its policy delay of ${required} s only since ${since}: it counts from ${end} on`;
}
