import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { type Hex, keccak256, type PublicClient } from 'viem';
import { describe, expect, test } from 'vitest';
import {
  canonicalSafeContract,
  isKnownSingleton,
  isSafeContract,
  safeArtifact,
  safeProxyCodeHash,
} from './safe-contracts.ts';

const runtime = (path: string): Hex => {
  const file = `@safe-global/safe-contracts/build/artifacts/contracts/${path}.json`;
  return JSON.parse(readFileSync(createRequire(import.meta.url).resolve(file), 'utf8'))
    .deployedBytecode as Hex;
};
const chainWith = (code: Hex): PublicClient => ({ getCode: async () => code }) as unknown as PublicClient;
const places = [
  ['SafeL2', 'SafeL2.sol/SafeL2'],
  ['SafeProxyFactory', 'proxies/SafeProxyFactory.sol/SafeProxyFactory'],
  ['MultiSendCallOnly', 'libraries/MultiSendCallOnly.sol/MultiSendCallOnly'],
  ['CompatibilityFallbackHandler', 'handler/CompatibilityFallbackHandler.sol/CompatibilityFallbackHandler'],
] as const;

describe('contracts of Safe 1.4.1', () => {
  test.each(places)('%s: its published code is that of the package', async (name, path) => {
    expect(await canonicalSafeContract(chainWith(runtime(path)), name)).toMatch(/^0x[0-9a-fA-F]{40}$/);
    expect(await canonicalSafeContract(chainWith('0x60'), name)).toBeUndefined();
    expect(await canonicalSafeContract(chainWith('0x'), name)).toBeUndefined();
    expect(safeArtifact(name).bytecode.length).toBeGreaterThan(100);
  });

  test('the batch contract that also delegates is not the one that only calls', async () => {
    const multiSend = runtime('libraries/MultiSend.sol/MultiSend');
    const any = '0x00000000000000000000000000000000000000aa';
    expect(await isSafeContract(chainWith(multiSend), 'MultiSendCallOnly', any)).toBe(false);
  });

  test('proxies and singletons are known by their code', () => {
    expect(keccak256(runtime('proxies/SafeProxy.sol/SafeProxy'))).toBe(safeProxyCodeHash);
    expect(isKnownSingleton(keccak256(runtime('Safe.sol/Safe')))).toBe(true);
    expect(isKnownSingleton(keccak256(runtime('SafeL2.sol/SafeL2')))).toBe(true);
    expect(isKnownSingleton(keccak256('0x60'))).toBe(false);
  });
});
