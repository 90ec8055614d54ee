import {
  type Address,
  encodeAbiParameters,
  encodeFunctionData,
  type Hex,
  keccak256,
  parseAbiParameters,
} from 'viem';
import { GovernanceError } from '../errors.ts';
import { timelockAbi } from './timelock-abi.ts';

/** One call of an operation or of a transaction. */
export type Call = { readonly to: Address; readonly value: bigint; readonly data: Hex };

/** What a Timelock is to do: the calls, in their order, after another operation if `predecessor` is not zero. */
export type TimelockOperation = {
  readonly calls: readonly Call[];
  readonly predecessor: Hex;
  readonly salt: Hex;
  /** Scheduled as a batch, which has another id even with one call. */
  readonly isBatch: boolean;
};

const single = parseAbiParameters('address, uint256, bytes, bytes32, bytes32');
const batch = parseAbiParameters('address[], uint256[], bytes[], bytes32, bytes32');

/** As `hashOperation` and `hashOperationBatch` of the Timelock, without asking anybody. */
export function operationId({ calls, predecessor, salt, isBatch }: TimelockOperation): Hex {
  if (isBatch) {
    return keccak256(
      encodeAbiParameters(batch, [
        calls.map(({ to }) => to),
        calls.map(({ value }) => value),
        calls.map(({ data }) => data),
        predecessor,
        salt,
      ]),
    );
  }
  const { to, value, data } = onlyCall(calls);
  return keccak256(encodeAbiParameters(single, [to, value, data, predecessor, salt]));
}

/** The call that schedules it. */
export function scheduleCall(timelock: Address, operation: TimelockOperation, delay: bigint): Call {
  const { calls, predecessor, salt, isBatch } = operation;
  if (isBatch) {
    const args = [...columns(calls), predecessor, salt, delay] as const;
    return callOf(timelock, encodeFunctionData({ abi: timelockAbi, functionName: 'scheduleBatch', args }));
  }
  const { to, value, data } = onlyCall(calls);
  const args = [to, value, data, predecessor, salt, delay] as const;
  return callOf(timelock, encodeFunctionData({ abi: timelockAbi, functionName: 'schedule', args }));
}

/** The call that executes it. */
export function executeCall(timelock: Address, operation: TimelockOperation): Call {
  const { calls, predecessor, salt, isBatch } = operation;
  if (isBatch) {
    const args = [...columns(calls), predecessor, salt] as const;
    return callOf(timelock, encodeFunctionData({ abi: timelockAbi, functionName: 'executeBatch', args }));
  }
  const { to, value, data } = onlyCall(calls);
  const args = [to, value, data, predecessor, salt] as const;
  return callOf(timelock, encodeFunctionData({ abi: timelockAbi, functionName: 'execute', args }));
}

/** The call that cancels it. */
export function cancelCall(timelock: Address, id: Hex): Call {
  return callOf(timelock, encodeFunctionData({ abi: timelockAbi, functionName: 'cancel', args: [id] }));
}

function columns(calls: readonly Call[]): [Address[], bigint[], Hex[]] {
  return [calls.map(({ to }) => to), calls.map(({ value }) => value), calls.map(({ data }) => data)];
}

const callOf = (to: Address, data: Hex): Call => ({ to, value: 0n, data });

function onlyCall(calls: readonly Call[]): Call {
  const [call, ...more] = calls;
  if (call !== undefined && more.length === 0) return call;
  throw new GovernanceError('bad-input', `An operation that is no batch has one call, found ${calls.length}`);
}
