import { type Address, type DecodeFunctionDataReturnType, decodeFunctionData, type Hex } from 'viem';
import type { TimelockOperation } from './operation.ts';
import { timelockAbi } from './timelock-abi.ts';

/** What a call to a Timelock schedules; undefined when it schedules nothing. */
export function decodeOperation(
  timelock: Address,
  data: Hex,
): { timelock: Address; operation: TimelockOperation; delay: bigint } | undefined {
  let decoded: DecodeFunctionDataReturnType<typeof timelockAbi>;
  try {
    decoded = decodeFunctionData({ abi: timelockAbi, data });
  } catch {
    return undefined;
  }
  if (decoded.functionName === 'schedule') {
    const [to, value, payload, predecessor, salt, delay] = decoded.args;
    const calls = [{ to, value, data: payload }];
    return { timelock, operation: { calls, predecessor, salt, isBatch: false }, delay };
  }
  if (decoded.functionName !== 'scheduleBatch') return undefined;
  const [targets, values, payloads, predecessor, salt, delay] = decoded.args;
  // The contract itself reverts then.
  if (targets.length !== values.length || targets.length !== payloads.length) return undefined;
  const calls = targets.map((to, index) => ({
    to,
    value: values[index] ?? 0n,
    data: payloads[index] ?? '0x',
  }));
  return { timelock, operation: { calls, predecessor, salt, isBatch: true }, delay };
}
