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
    ['RPC address 2 must be an http or https URL', { rpcUrls: ['http://a', 'ftp://a'] }],
    ['kmsContract is no hex', { kmsContract: 'https://rpc.example' }],
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

  test.each<[string, Partial<ChainPolicyOptions>]>([
    ['an endpoint without scheme', { rpcUrls: ['rpc.example/v2/SECRET'] }],
    ['an endpoint with a space in the host', { rpcUrls: ['https://user:SECRET@rpc example/'] }],
    ['an endpoint of another scheme', { rpcUrls: ['wss://rpc.example/v2/SECRET'] }],
    ['the light client', { lightClientUrl: 'rpc.example:1/SECRET' }],
    ['the contract that is an endpoint', { kmsContract: 'https://rpc.example/v2/SECRET' }],
  ])('does not show %s', (_, options) => {
    const wrong = () => chainSettings({ rpcUrls: ['http://127.0.0.1:1'], kmsContract, ...options });
    expect(wrong).toThrow(
      expect.objectContaining({ code: 'bad-configuration', message: expect.not.stringContaining('SECRET') }),
    );
  });
});
