import { dstackKmsAbi } from '@dstack-cloud/contracts';
import { decodeFunctionData, isAddressEqual } from 'viem';
import { decodeMultiSend } from '../safe/multi-send.ts';
import type { SafeTx } from '../safe/safe-tx.ts';
import type { Call } from '../timelock/operation.ts';
import type { KnownContracts } from '../words/known-contracts.ts';

/** The calls that a Safe transaction makes: those of a batch one by one. A delegatecall to anything else makes none known. */
export function callsOfTransaction(
  { to, value, data, operation }: Pick<SafeTx, 'to' | 'value' | 'data' | 'operation'>,
  known: KnownContracts,
): Call[] {
  if (operation === 0) return [{ to, value, data }];
  if (known.get(to.toLowerCase())?.kind !== 'multi-send') return [];
  try {
    // The batch contract refuses a delegatecall inside.
    return decodeMultiSend(data).filter((one) => one.operation === 0);
  } catch {
    // Others wrote it.
    return [];
  }
}

/** Whether a call makes another one: it is the same, or a contract's own batch with it. */
export function makesCall(made: Call, wanted: Call): boolean {
  if (!isAddressEqual(made.to, wanted.to)) return false;
  if (made.data.toLowerCase() === wanted.data.toLowerCase()) return true;
  try {
    const { functionName, args } = decodeFunctionData({ abi: dstackKmsAbi, data: made.data });
    if (functionName !== 'multicall') return false;
    return args[0].some((one) => one.toLowerCase() === wanted.data.toLowerCase());
  } catch {
    return false;
  }
}
