import { type Address, getAddress, type Hex, type PublicClient, zeroAddress } from 'viem';
import { GovernanceError } from '../errors.ts';
import { requirePresent } from '../state/absent.ts';
import { safeAbi } from './safe-abi.ts';

/** The first element of every linked list of a Safe. */
const SENTINEL: Address = '0x0000000000000000000000000000000000000001';
const MODULE_PAGE = 32n;
/** keccak256("guard_manager.guard.address"), GuardManager.sol of Safe 1.4.1. */
const GUARD_SLOT: Hex = '0x4a204f620c8c5ccdca3fd54d003badd85ba500436a431f0cbda4f558c93c34c8';
/** keccak256("fallback_manager.handler.address"), FallbackManager.sol of Safe 1.4.1. */
const FALLBACK_SLOT: Hex = '0x6c9a6c4a39284e37ed1cf53d337577d14212a4870fb976a4366c693b939918d5';

/** A Safe at one block. */
export type SafeState = {
  readonly address: Address;
  readonly version: string;
  readonly owners: readonly Address[];
  readonly threshold: number;
  /** Of the next transaction. */
  readonly nonce: bigint;
  /** Contracts that may act for the Safe without its owners. */
  readonly modules: readonly Address[];
  /** A contract that every transaction has to please, or undefined. */
  readonly guard: Address | undefined;
  readonly fallbackHandler: Address | undefined;
  /** The code behind the proxy. */
  readonly singleton: Address;
};

/** @throws GovernanceError `not-found` when there is no Safe that this program understands */
export async function readSafe(client: PublicClient, address: Address, at: bigint): Promise<SafeState> {
  const call = { address, abi: safeAbi, blockNumber: at } as const;
  const reading = Promise.all([
    client.readContract({ ...call, functionName: 'VERSION' }),
    client.readContract({ ...call, functionName: 'getOwners' }),
    client.readContract({ ...call, functionName: 'getThreshold' }),
    client.readContract({ ...call, functionName: 'nonce' }),
    client.readContract({ ...call, functionName: 'getModulesPaginated', args: [SENTINEL, MODULE_PAGE] }),
    addressAt(client, address, GUARD_SLOT, at),
    addressAt(client, address, FALLBACK_SLOT, at),
    addressAt(client, address, '0x0', at),
  ]);
  const [version, owners, threshold, nonce, [modules, next], guard, handler, singleton] =
    await requirePresent(
      reading,
      () => new GovernanceError('not-found', `${address} does not answer as a Safe`),
    );
  if (!/^1\.(3|4)\.\d+/.test(version)) {
    throw new GovernanceError('not-found', `The Safe ${address} has a version that is not supported`, {
      expected: '1.3 or 1.4',
      found: version,
    });
  }
  if (next !== SENTINEL && next !== zeroAddress) {
    throw new GovernanceError('too-much', `The Safe ${address} has more than ${MODULE_PAGE} modules`);
  }
  if (owners.length === 0 || threshold < 1n || threshold > BigInt(owners.length)) {
    throw new GovernanceError('chain-inconsistent', `The Safe ${address} has an impossible threshold`, {
      expected: `1 to ${owners.length}`,
      found: String(threshold),
    });
  }
  return {
    ...{ address: getAddress(address), version, owners, threshold: Number(threshold), nonce, modules },
    ...{ guard, fallbackHandler: handler, singleton: singleton ?? zeroAddress },
  };
}

/** The owner before `owner` in the Safe's list, which `removeOwner` and `swapOwner` want. */
export function previousOwner({ address, owners }: SafeState, owner: Address): Address {
  const at = owners.findIndex((one) => one.toLowerCase() === owner.toLowerCase());
  if (at < 0) throw new GovernanceError('bad-input', `${owner} is no signer of the Safe ${address}`);
  return owners[at - 1] ?? SENTINEL;
}

async function addressAt(
  client: PublicClient,
  address: Address,
  slot: Hex,
  blockNumber: bigint,
): Promise<Address | undefined> {
  const word = await client.getStorageAt({ address, slot, blockNumber });
  if (word === undefined || /^0x0*$/.test(word)) return undefined;
  return getAddress(`0x${word.slice(-40)}`);
}
