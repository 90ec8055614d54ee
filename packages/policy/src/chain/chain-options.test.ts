import { describe, expect, test } from 'vitest';
import { type ChainPolicyOptions, chainSettings } from './chain-options.ts';

const kmsContract = `0x${'ab'.repeat(20)}`;

describe('quorum', () => {
  test.each([
    [1, 1],
    [2, 2],
    [3, 2],
    [4, 3],
    [5, 3],
  ])('of %d endpoints is %d by default', (count, quorum) => {
    const rpcUrls = Array.from({ length: count }, (_, index) => `http://node-${index}`);
    expect(chainSettings({ rpcUrls, kmsContract }).quorum).toBe(quorum);
  });
});

describe('configuration', () => {
  test.each<[string, Partial<ChainPolicyOptions>]>([
    ['rpcUrls is empty', { rpcUrls: [] }],
    ['rpcUrls is one twice', { rpcUrls: ['http://a', 'http://A/'] }],
    ['An RPC address must be', { rpcUrls: ['ftp://a'] }],
    ['kmsContract is 0x00', { kmsContract: `0x${'00'.repeat(20)}` }],
    ['kmsContract is 0x1', { kmsContract: '0x1' }],
    ['quorum is 0', { quorum: 0 }],
    ['quorum is 2', { quorum: 2 }],
    ['finality is -1', { finality: -1 }],
    ['maxBlockAgeSeconds is 0', { maxBlockAgeSeconds: 0 }],
    ['maxBlockAgeSeconds is NaN', { maxBlockAgeSeconds: Number.NaN }],
    ['headReuseMs is 60000', { headReuseMs: 60_000 }],
  ])('%s', (message, options) => {
    expect(() => chainSettings({ rpcUrls: ['http://127.0.0.1:1'], kmsContract, ...options })).toThrow(
      expect.objectContaining({ code: 'bad-configuration', message: expect.stringContaining(message) }),
    );
  });
});
