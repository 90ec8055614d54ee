import { randomBytes } from 'node:crypto';
import {
  type Abi,
  type Address,
  bytesToHex,
  decodeFunctionData,
  encodeFunctionData,
  type Hex,
  parseAbi,
  zeroHash,
} from 'viem';
import { dstackKmsAbi } from '../abi/dstack-kms.ts';
import type { TaskChain } from './connect-task.ts';
import { explainRevert } from './explain-revert.ts';
import type { TaskCall } from './task.ts';

/** An unsigned transaction. */
export type Unsigned = { readonly to: Address; readonly value: '0'; readonly data: Hex };

const timelockAbi = parseAbi([
  'function schedule(address target, uint256 value, bytes data, bytes32 predecessor, bytes32 salt, uint256 delay)',
  'function getMinDelay() view returns (uint256)',
  'function hashOperation(address target, uint256 value, bytes data, bytes32 predecessor, bytes32 salt) view returns (bytes32)',
]);

/** The call as data. */
export function unsignedOf({ to, abi, functionName, args }: TaskCall): Unsigned {
  return { to, value: '0', data: encodeFunctionData({ abi, functionName, args: [...args] }) };
}

/** The call that makes another one public, so that it can be made after the contract's policy delay. */
export function announcing(call: TaskCall): TaskCall {
  return { ...call, abi: dstackKmsAbi as Abi, functionName: 'announce', args: [unsignedOf(call).data] };
}

/** The call in words, decoded from the very data that would be sent. */
export function describeCall(call: TaskCall): string {
  const { functionName, args } = decodeFunctionData({ abi: call.abi, data: unsignedOf(call).data });
  return `${functionName}(${(args ?? []).map(inWords).join(', ')}) on ${call.to}`;
}

function inWords(value: unknown): string {
  if (typeof value === 'object' && value !== null) {
    return `{${Object.entries(value)
      .map(([name, one]) => `${name}: ${inWords(one)}`)
      .join(', ')}}`;
  }
  const text = String(value);
  return text.length > 140 ? `${text.slice(0, 66)}… (${text.length} characters)` : text;
}

/** Calls it as `from` without sending anything. @throws ContractsError `call-reverted` */
export async function simulate(chain: TaskChain, call: TaskCall, from: Address): Promise<unknown> {
  const { to, abi, functionName, args } = call;
  const simulated = chain.public.simulateContract({
    address: to,
    abi,
    functionName,
    args: [...args],
    account: from,
  });
  return (
    await simulated.catch((error: unknown) => {
      throw explainRevert(functionName, error);
    })
  ).result;
}

/**
 * What proposers of a Timelock have to send so that it makes the call after its delay.
 * @param proposer who will send it, if that is known: a role that it lacks is found out now
 */
export async function scheduled(
  chain: TaskChain,
  timelock: Address,
  call: TaskCall,
  proposer: Address | undefined,
): Promise<{ transaction: Unsigned; id: Hex; salt: Hex; delaySeconds: string }> {
  const { to, data } = unsignedOf(call);
  const read = { address: timelock, abi: timelockAbi } as const;
  // Random, because two pending operations of one content need different salts.
  const salt = bytesToHex(randomBytes(32));
  const [delay, id] = await Promise.all([
    chain.public.readContract({ ...read, functionName: 'getMinDelay' }),
    chain.public.readContract({
      ...read,
      functionName: 'hashOperation',
      args: [to, 0n, data, zeroHash, salt],
    }),
  ]).catch((error: unknown) => {
    throw explainRevert(`reading the Timelock ${timelock}`, error);
  });
  const schedule: TaskCall = {
    ...{ to: timelock, abi: timelockAbi, functionName: 'schedule' },
    args: [to, 0n, data, zeroHash, salt, delay],
  };
  if (proposer !== undefined) await simulate(chain, schedule, proposer);
  return {
    transaction: unsignedOf(schedule),
    ...{ id, salt, delaySeconds: delay.toString() },
  };
}

/** A batch file that Safe's transaction builder reads. */
export function safeBatch(
  chainId: number,
  safe: Address,
  name: string,
  transactions: readonly Unsigned[],
): object {
  return {
    version: '1.0',
    chainId: String(chainId),
    meta: { name, createdFromSafeAddress: safe },
    transactions: transactions.map((transaction) => ({
      ...transaction,
      contractMethod: null,
      contractInputsValues: null,
    })),
  };
}
