import {
  type Address,
  concatHex,
  decodeFunctionData,
  encodeFunctionData,
  encodePacked,
  getAddress,
  type Hex,
  size,
  slice,
} from 'viem';
import { GovernanceError } from '../errors.ts';
import type { Call } from '../timelock/operation.ts';
import { multiSendAbi } from './safe-abi.ts';

/** More calls than a block has room for. */
const MAX_CALLS = 256;
/** operation (1), to (20), value (32), length of data (32): MultiSend.sol of Safe 1.4.1. */
const HEAD = 85;

/** A call inside a batch; `operation` 1 is a delegatecall. */
export type BatchedCall = Call & { readonly operation: 0 | 1 };

/** Data for MultiSendCallOnly: the calls in their order, all or none. */
export function encodeMultiSend(calls: readonly Call[]): Hex {
  if (calls.length === 0 || calls.length > MAX_CALLS) {
    throw new GovernanceError('bad-input', `A batch has 1 to ${MAX_CALLS} calls, found ${calls.length}`);
  }
  const packed = calls.map(({ to, value, data }) =>
    encodePacked(
      ['uint8', 'address', 'uint256', 'uint256', 'bytes'],
      [0, to, value, BigInt(size(data)), data],
    ),
  );
  return encodeFunctionData({ abi: multiSendAbi, functionName: 'multiSend', args: [concatHex(packed)] });
}

/** The calls of a `multiSend`. @throws GovernanceError `bad-input` for anything that is not exactly one */
export function decodeMultiSend(data: Hex): BatchedCall[] {
  let packed: Hex;
  try {
    [packed] = decodeFunctionData({ abi: multiSendAbi, data }).args;
  } catch {
    throw new GovernanceError('bad-input', 'The data is no multiSend call');
  }
  return unpackBatch(packed);
}

/** The calls of the one argument of `multiSend`. @throws GovernanceError `bad-input` */
export function unpackBatch(packed: Hex): BatchedCall[] {
  const calls: BatchedCall[] = [];
  const total = size(packed);
  for (let at = 0; at < total; ) {
    if (calls.length >= MAX_CALLS || total - at < HEAD) throw damaged(at);
    const operation = Number(slice(packed, at, at + 1));
    const to: Address = getAddress(slice(packed, at + 1, at + 21));
    const value = BigInt(slice(packed, at + 21, at + 53));
    const length = BigInt(slice(packed, at + 53, at + HEAD));
    if ((operation !== 0 && operation !== 1) || length > BigInt(total - at - HEAD)) throw damaged(at);
    const end = at + HEAD + Number(length);
    calls.push({ operation, to, value, data: length === 0n ? '0x' : slice(packed, at + HEAD, end) });
    at = end;
  }
  return calls;
}

function damaged(at: number): GovernanceError {
  return new GovernanceError('bad-input', `The batch is damaged at byte ${at}`);
}
