import {
  type Address,
  concatHex,
  encodeAbiParameters,
  encodeFunctionData,
  getContractAddress,
  type Hex,
  keccak256,
  parseAbi,
  zeroAddress,
} from 'viem';
import type { Call } from '../timelock/operation.ts';
import { safeAbi } from './safe-abi.ts';

const factoryAbi = parseAbi([
  'function createProxyWithNonce(address _singleton, bytes initializer, uint256 saltNonce) returns (address proxy)',
]);

/** What a new Safe is made of. */
export type NewSafe = {
  readonly factory: Address;
  readonly singleton: Address;
  readonly fallbackHandler: Address;
  readonly owners: readonly Address[];
  readonly threshold: number;
  /** Tells Safes of the same signers apart. */
  readonly saltNonce: bigint;
  /** Creation code of SafeProxy. */
  readonly proxyCode: Hex;
};

/** The call that makes a Safe, and the address that it will have: computed, not asked for. */
export function createSafe(safe: NewSafe): { call: Call; address: Address } {
  const { factory, singleton, fallbackHandler, owners, threshold, saltNonce, proxyCode } = safe;
  const initializer = encodeFunctionData({
    ...{ abi: safeAbi, functionName: 'setup' },
    args: [
      ...([[...owners], BigInt(threshold), zeroAddress, '0x'] as const),
      ...([fallbackHandler, zeroAddress, 0n, zeroAddress] as const),
    ],
  });
  const data = encodeFunctionData({
    ...{ abi: factoryAbi, functionName: 'createProxyWithNonce' },
    args: [singleton, initializer, saltNonce],
  });
  // SafeProxyFactory.sol of Safe 1.4.1, deployProxy and createProxyWithNonce.
  const salt = keccak256(
    concatHex([keccak256(initializer), encodeAbiParameters([{ type: 'uint256' }], [saltNonce])]),
  );
  const bytecode = concatHex([proxyCode, encodeAbiParameters([{ type: 'address' }], [singleton])]);
  const address = getContractAddress({ opcode: 'CREATE2', from: factory, salt, bytecode });
  return { call: { to: factory, value: 0n, data }, address };
}
