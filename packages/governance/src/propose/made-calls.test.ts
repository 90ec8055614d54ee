import { dstackKmsAbi } from '@dstack-cloud/contracts';
import { type Address, encodeFunctionData, type Hex } from 'viem';
import { expect, test } from 'vitest';
import { encodeMultiSend } from '../safe/multi-send.ts';
import { safeTx } from '../safe/safe-tx.ts';
import type { Call } from '../timelock/operation.ts';
import type { KnownContracts } from '../words/known-contracts.ts';
import { callsOfTransaction, makesCall } from './made-calls.ts';

const kms: Address = '0x0000000000000000000000000000000000000011';
const batch: Address = '0x0000000000000000000000000000000000000022';
const other: Address = '0x0000000000000000000000000000000000000033';
const known: KnownContracts = new Map([[batch, { kind: 'multi-send', name: 'MultiSendCallOnly' }]]);
const add = (digit: string): Call => ({
  ...{ to: kms, value: 0n },
  data: encodeFunctionData({
    ...{ abi: dstackKmsAbi, functionName: 'addOsImageHash', args: [`0x${digit.repeat(64)}` as Hex] },
  }),
});

test('a Safe transaction makes its call, or those of a batch; of an unknown delegatecall nothing is known', () => {
  const calls = [add('1'), add('2')];
  const inBatch = { to: batch, value: 0n, data: encodeMultiSend(calls) };
  expect(callsOfTransaction(safeTx(add('1'), 0n), known)).toEqual([add('1')]);
  expect(callsOfTransaction(safeTx(inBatch, 0n, 1), known)).toMatchObject(calls);
  expect(callsOfTransaction(safeTx({ ...inBatch, to: other }, 0n, 1), known)).toEqual([]);
  expect(callsOfTransaction(safeTx({ ...inBatch, data: '0x8d80ff0a' }, 0n, 1), known)).toEqual([]);
});

test('a call is made by itself and by the batch of its contract, and by nothing else', () => {
  const data = encodeFunctionData({
    ...{ abi: dstackKmsAbi, functionName: 'multicall', args: [[add('1').data, add('2').data]] },
  });
  const multicall = { to: kms, value: 0n, data };
  expect(makesCall(add('1'), add('1'))).toBe(true);
  expect(makesCall(multicall, add('2'))).toBe(true);
  expect(makesCall(multicall, add('3'))).toBe(false);
  expect(makesCall({ ...add('1'), to: other }, add('1'))).toBe(false);
  expect(makesCall({ ...add('1'), data: '0x1234' }, add('1'))).toBe(false);
});
