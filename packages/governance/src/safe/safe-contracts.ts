import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { type Abi, type Address, type Hex, keccak256, type PublicClient } from 'viem';
import { GovernanceError } from '../errors.ts';

/** The contracts of Safe 1.4.1 that a deployment needs. */
export type SafeContractName =
  | 'SafeL2'
  | 'SafeProxyFactory'
  | 'MultiSendCallOnly'
  | 'CompatibilityFallbackHandler';

/**
 * Where Safe has deployed its contracts on some 400 chains, and the hash of what must be there
 * (@safe-global/safe-deployments 1.37.63, assets/v1.4.1).
 */
const canonical: Readonly<Record<SafeContractName, { address: Address; codeHash: Hex; source: string }>> = {
  SafeL2: {
    address: '0x29fcB43b46531BcA003ddC8FCB67FFE91900C762',
    codeHash: '0xb1f926978a0f44a2c0ec8fe822418ae969bd8c3f18d61e5103100339894f81ff',
    source: 'SafeL2.sol',
  },
  SafeProxyFactory: {
    address: '0x4e1DCf7AD4e460CfD30791CCC4F9c8a4f820ec67',
    codeHash: '0x50c3cdc4074750a7a974204a716c999edd37482f907608d960b2b025ee0b3317',
    source: 'proxies/SafeProxyFactory.sol',
  },
  MultiSendCallOnly: {
    address: '0x9641d764fc13c8B624c04430C7356C1C7C8102e2',
    codeHash: '0xecd5bd14a08c5d2122379900b2f272bdf107a7e92423c10dd5fe3254386c9939',
    source: 'libraries/MultiSendCallOnly.sol',
  },
  CompatibilityFallbackHandler: {
    address: '0xfd0732Dc9E303f09fCEf3a7388Ad10A83459Ec99',
    codeHash: '0x7c6007a5d711cea8dfd5d91f5940ec29c7f200fe511eb1fc1397b367af3c42f9',
    source: 'handler/CompatibilityFallbackHandler.sol',
  },
};

/** Runtime code of Safe proxies of version 1.4.1: the same for every Safe. */
export const safeProxyCodeHash: Hex = '0xd7d408ebcd99b2b70be43e20253d6d92a8ea8fab29bd3be7f55b10032331fb4c';

/** Compiled code of a Safe contract, from Safe's own package. It is loaded only where something is deployed. */
export function safeArtifact(name: SafeContractName | 'SafeProxy'): { abi: Abi; bytecode: Hex } {
  const source = name === 'SafeProxy' ? 'proxies/SafeProxy.sol' : canonical[name].source;
  const path = `@safe-global/safe-contracts/build/artifacts/contracts/${source}/${name}.json`;
  try {
    const { abi, bytecode } = JSON.parse(
      readFileSync(createRequire(import.meta.url).resolve(path), 'utf8'),
    ) as {
      abi: Abi;
      bytecode: Hex;
    };
    return { abi, bytecode };
  } catch (cause) {
    throw new GovernanceError(
      'not-found',
      `The package @safe-global/safe-contracts is not installed: no ${name}`,
      {
        ...{ cause, hint: 'Run npm ci, or name a Safe that exists' },
      },
    );
  }
}

/** The address at which Safe's own deployment is on this chain, or undefined. What lies there is compared by its hash. */
export async function canonicalSafeContract(
  client: PublicClient,
  name: SafeContractName,
): Promise<Address | undefined> {
  const { address } = canonical[name];
  return (await isSafeContract(client, name, address)) ? address : undefined;
}

/** Is this address the contract of Safe 1.4.1? */
export async function isSafeContract(
  client: PublicClient,
  name: SafeContractName,
  address: Address,
): Promise<boolean> {
  const code = await client.getCode({ address });
  return code !== undefined && keccak256(code) === canonical[name].codeHash;
}

/** Does this code hash belong to a Safe singleton that we know? */
export function isKnownSingleton(codeHash: Hex): boolean {
  return codeHash === canonical.SafeL2.codeHash || codeHash === SAFE_CODE_HASH;
}

/** Safe.sol of 1.4.1, which differs from SafeL2 in the events that it emits. */
const SAFE_CODE_HASH: Hex = '0x1fe2df852ba3299d6534ef416eefa406e56ced995bca886ab7a553e6d0c5e1c4';
