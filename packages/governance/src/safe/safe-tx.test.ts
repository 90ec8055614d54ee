import { keccak256, toHex, zeroHash } from 'viem';
import { describe, expect, test } from 'vitest';
import { operationId } from '../timelock/operation.ts';
import { roleIds } from '../timelock/roles.ts';
import { safeTx, safeTxHash } from './safe-tx.ts';

/** Made with protocol-kit and a deployed Safe 1.4.1 and TimelockController 5.4. */
describe('hashes that signers and the Timelock compute', () => {
  test('a Safe transaction', () => {
    const tx = safeTx(
      { to: '0x8a791620dd6260079bf849dc5567adc3f2fdc318', value: 0n, data: '0x01d5062a' },
      0n,
    );
    expect(safeTxHash(31_337, '0xbF5D47bB5b519b9239a62cB6b108489F30398B51', tx)).toBe(
      '0x9c3619fa5e7c8d8dea5d593e82ea02c57e4508a960c3b2adb6b6eecc3dc6c232',
    );
  });

  test('an operation', () => {
    const call = {
      to: '0x9fE46736679d2D9a65F0992F2272dE9f3c7fa6e0',
      value: 0n,
      data: `0x06a3ae96${'44'.repeat(32)}`,
    } as const;
    const salt = keccak256(toHex('op-1'));
    const operation = { calls: [call], predecessor: zeroHash, salt, isBatch: false };
    expect(operationId(operation)).toBe('0x9a2a5cd9cf66c045b837906921b626f5ded3255970e7b2244aabc172490125e9');
    expect(operationId({ ...operation, isBatch: true })).not.toBe(operationId(operation));
    const other = { ...call, data: `0x06a3ae96${'45'.repeat(32)}` } as const;
    const batch = { ...operation, isBatch: true, calls: [call, other] };
    expect(operationId(batch)).not.toBe(operationId({ ...batch, calls: [other, call] }));
    expect(() => operationId({ ...operation, calls: [call, call] })).toThrow('has one call, found 2');
  });

  test('the roles', () => {
    expect(roleIds.proposer).toBe('0xb09aa5aeb3702cfd50b6b62bc4532604938f21248a27a1d5ca736082b6819cc1');
    expect(roleIds.executor).toBe('0xd8aa0f3194971a2a116679f7c2090f6939c8d4e01a2a8d7e41d55e5351469e63');
    expect(roleIds.canceller).toBe('0xfd643c72710c63c0180259aba6b2d05451e3591a24e58b62239378085726f783');
  });
});
