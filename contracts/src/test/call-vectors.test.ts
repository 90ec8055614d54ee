/** The call data that an auth API sends. */
import { createHash } from 'node:crypto';
import { decodeFunctionResult, encodeFunctionData, encodeFunctionResult, type Hex } from 'viem';
import { expect, test } from 'vitest';
import { dstackKmsAbi } from '../abi/dstack-kms.ts';
import { vectorBootInfo } from './test-chain.ts';

test('isAppAllowed', () => {
  const data = encodeFunctionData({
    abi: dstackKmsAbi,
    functionName: 'isAppAllowed',
    args: [vectorBootInfo],
  });
  expect(data.length / 2 - 1).toBe(516);
  expect(createHash('sha256').update(data).digest('hex')).toBe(
    '3de9c6828fdcc8af68ed904e7c668265a9b3667129334dd9a22a6724754399f2',
  );
});

const word = (value: number): string => value.toString(16).padStart(64, '0');

test.each([
  [
    [false, 'App not registered'],
    word(0) + word(0x40) + word(0x12) + '417070206e6f742072656769737465726564'.padEnd(64, '0'),
  ],
  [[true, ''], word(1) + word(0x40) + word(0)],
] as const)('result %j', (result, words) => {
  const data: Hex = `0x${words}`;
  expect(encodeFunctionResult({ abi: dstackKmsAbi, functionName: 'isAppAllowed', result })).toBe(data);
  expect(decodeFunctionResult({ abi: dstackKmsAbi, functionName: 'isAppAllowed', data })).toEqual(result);
});
