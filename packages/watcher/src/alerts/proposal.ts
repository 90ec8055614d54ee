import { type CallInWords, callLines, describeCall, leafCalls } from '@dstack-cloud/governance';
import { getAddress, type Hex, isAddress, isHex } from 'viem';
import type { AlertContext, Finding } from './occurrence.ts';

/** Characters of hex that are decoded, as much as of an event is kept: megabytes take seconds. */
const MAX_DECODED = 32_768;
/** Longest text of a message; a batch may hold many calls. */
const MAX_TEXT = 3_000;

/** Calls that are to be made, in words; what is dangerous in them is said apart, before it takes effect. */
export function proposal(
  what: string,
  when: string,
  calls: readonly CallInWords[],
  context: AlertContext,
): Finding[] {
  const lines = calls.flatMap((call) => callLines(call));
  const reasons = [...new Set(calls.flatMap(leafCalls).flatMap((call) => dangers(call, context)))];
  const text = `${what}, ${when}: ${lines.join('; ')}`;
  const told: Finding = { rule: 'new-proposal', severity: 'warning', text: text.slice(0, MAX_TEXT) };
  if (reasons.length === 0) return [told];
  const warning = `${what}, and would ${reasons.join('; ')}`;
  return [told, { rule: 'suspicious-proposal', severity: 'critical', text: warning.slice(0, MAX_TEXT) }];
}

/** Never throws for what is written on a chain. */
export function callInWords(
  {
    target,
    value,
    data,
    operation = 0,
  }: {
    readonly target: string;
    readonly value: string;
    readonly data: string;
    readonly operation?: 0 | 1;
  },
  known: AlertContext['known'],
): CallInWords {
  const call = {
    to: isAddress(target, { strict: false }) ? getAddress(target) : getAddress(`0x${'0'.repeat(40)}`),
    value: /^\d{1,78}$/.test(value) ? BigInt(value) : 0n,
    // What is too long, or was too long to keep, is not decoded, and is shown as unknown.
    data: isHex(data) && data.length <= MAX_DECODED ? data : ('0x00000000' as Hex),
  };
  return describeCall({ ...call, operation }, known);
}

function dangers(call: CallInWords, { inUse, isListed }: AlertContext): string[] {
  const { effect, text, warnings, functionName = '', args } = call;
  const uses = (value: unknown): boolean => inUse.has(String(value).toLowerCase());
  const isDangerous =
    ['powers', 'code', 'unknown'].includes(effect) ||
    (functionName === 'setAllowAnyDevice' && args[0] === true) ||
    functionName === 'pause' ||
    (functionName === 'blockApp' && isListed(String(args[0]).toLowerCase())) ||
    (functionName === 'replaceComposeHash' && uses(args[0]) && args[2] === 0n) ||
    (effect === 'removes' && args.some(uses));
  return isDangerous || warnings.length > 0 ? [[text, ...warnings].join(' ')] : [];
}
