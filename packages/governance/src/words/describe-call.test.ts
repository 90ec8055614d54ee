import { dstackAppAbi, dstackKmsAbi } from '@dstack-cloud/contracts';
import fc from 'fast-check';
import { type Abi, type Address, encodeFunctionData, type Hex, zeroHash } from 'viem';
import { describe, expect, test } from 'vitest';
import { encodeMultiSend } from '../safe/multi-send.ts';
import { safeAbi } from '../safe/safe-abi.ts';
import { scheduleCall } from '../timelock/operation.ts';
import { timelockAbi } from '../timelock/timelock-abi.ts';
import { callLines, describeCall, leafCalls } from './describe-call.ts';
import type { KnownContracts } from './known-contracts.ts';
import {
  appSentences,
  durationText,
  kmsSentences,
  safeSentences,
  timelockSentences,
  timeText,
} from './sentences.ts';

const at = (digit: string): Address => `0x${digit.repeat(40)}`;
const hash: Hex = `0x${'44'.repeat(32)}`;
const known: KnownContracts = new Map([
  [at('1'), { kind: 'kms', name: 'DstackKms' }],
  [at('2'), { kind: 'app', name: 'the app' }],
  [at('3'), { kind: 'timelock', name: 'the Timelock' }],
  [at('4'), { kind: 'safe', name: 'the Safe' }],
  [at('5'), { kind: 'multi-send', name: 'the batch contract' }],
]);
const kmsCall = (functionName: string, args: readonly unknown[], to: Address = at('1')) => ({
  to,
  value: 0n,
  data: encodeFunctionData({ abi: dstackKmsAbi as Abi, functionName, args: [...args] }),
});

describe('calls in words', () => {
  test.each([
    ['DstackKms', dstackKmsAbi, kmsSentences],
    ['DstackApp', dstackAppAbi, appSentences],
    ['Timelock', timelockAbi, timelockSentences],
    ['Safe', safeAbi, safeSentences],
  ] as const)('every function of %s that changes something has words', (_, abi, sentences) => {
    const writing = abi
      .filter((item) => item.type === 'function')
      .filter(({ stateMutability }) => stateMutability !== 'view' && stateMutability !== 'pure')
      .map(({ name }) => name);
    expect(Object.keys(sentences).sort()).toEqual(
      [...new Set(writing)].filter((name) => name !== 'multicall').sort(),
    );
  });

  test('a batch in a Timelock says each call', () => {
    const calls = [kmsCall('addOsImageHash', [hash]), kmsCall('addKmsAggregatedMr', [hash])];
    const operation = { calls, predecessor: zeroHash, salt: zeroHash, isBatch: true };
    const words = describeCall(scheduleCall(at('3'), operation, 7200n), known);
    expect(callLines(words)).toEqual([
      'schedule as one batch, to be ready after 2 hours, on the Timelock',
      `  allow OS image ${hash}, on DstackKms`,
      `  allow KMS measurement ${hash}, on DstackKms`,
    ]);
    expect(words.effect).toBe('adds');
    expect(leafCalls(words)).toHaveLength(2);
  });

  test('multicall, an upgrade with a call, and MultiSend are taken apart', () => {
    const inner = [kmsCall('pause', []).data, kmsCall('transferOwnership', [at('9')]).data];
    const multicall = describeCall(kmsCall('multicall', [inner]), known);
    expect(multicall.effect).toBe('powers');
    expect(callLines(multicall).join('\n')).toContain(
      `Warning: ${at('9')} is neither the Timelock nor the Safe`,
    );
    const upgrade = describeCall(kmsCall('upgradeToAndCall', [at('7'), inner[0]]), known);
    expect(upgrade.inner[0]?.text).toBe('pause: allow nothing, on DstackKms');
    const data = encodeMultiSend([kmsCall('pause', []), kmsCall('unpause', [])]);
    const batch = describeCall({ to: at('5'), value: 0n, data, operation: 1 }, known);
    expect(batch).toMatchObject({
      effect: 'adds',
      warnings: [],
      text: '2 calls, all or none, on the batch contract',
    });
  });

  test('what a signer must not overlook is a warning', () => {
    const warned = (call: Parameters<typeof describeCall>[0]): string =>
      callLines(describeCall(call, known)).join('\n');
    const add = kmsCall('addOsImageHash', [hash]);
    expect(warned({ ...add, operation: 1 })).toContain('A delegatecall to');
    expect(warned({ ...add, value: 3n })).toContain('It sends 3 wei');
    expect(warned({ ...add, to: at('8') })).toContain('no contract of this domain');
    expect(warned({ ...add, data: '0xdeadbeef' })).toContain('no function that this program knows');
    const debug = '0x81c611f35bff79491538b2f7cf201c7597a661a5c549633541c62bdc8af1613f';
    expect(warned(kmsCall('addOsImageHash', [debug]))).toContain('without protection');
    const module = encodeFunctionData({ abi: safeAbi, functionName: 'enableModule', args: [at('9')] });
    expect(warned({ to: at('4'), value: 0n, data: module })).toContain('without any signature');
    expect(warned(kmsCall('addOsImageHash', [hash]))).not.toContain('Warning');
  });

  test('texts of others are quoted, and no bytes make it throw', () => {
    const words = describeCall(kmsCall('setGatewayAppId', ['" as the owner']), known);
    expect(words.text).toBe('name "\\" as the owner" as the gateway, on DstackKms');
    const selectors = [
      kmsCall('multicall', [[]]).data,
      kmsCall('upgradeToAndCall', [at('7'), '0x']).data,
    ].map((data) => data.slice(0, 10));
    fc.assert(
      fc.property(
        fc.constantFrom('0x', '0x8d80ff0a', '0x8f2a0bb0', '0x6a761202', ...selectors),
        fc.uint8Array({ maxLength: 300 }),
        fc.constantFrom('1', '2', '3', '4', '5', '6'),
        (head, tail, digit) => {
          const data = `${head}${Buffer.from(tail).toString('hex')}` as Hex;
          expect(callLines(describeCall({ to: at(digit), value: 0n, data }, known)).length).toBeGreaterThan(
            0,
          );
        },
      ),
    );
  });

  test('calls inside calls end', () => {
    let call = kmsCall('pause', []);
    for (let depth = 0; depth < 20; depth += 1) call = kmsCall('multicall', [[call.data]]);
    expect(callLines(describeCall(call, known)).join('\n')).toContain('more calls inside than are shown');
  });

  test('times and durations', () => {
    expect(timeText(1_800_000_000n)).toBe('2027-01-15T08:00:00Z');
    expect(timeText(2n ** 64n)).toBe('second 18446744073709551616');
    expect([1n, 3_600n, 90n, 172_800n].map(durationText)).toEqual([
      '1 second',
      '1 hour',
      '90 seconds',
      '2 days',
    ]);
  });
});
