import { APP_FLAGS_SLOT, dstackAppAbi, dstackKmsAbi, upgradesDisabledFrom } from '@dstack-cloud/contracts';
import {
  type Address,
  getAbiItem,
  getAddress,
  type Hex,
  keccak256,
  type PublicClient,
  zeroAddress,
} from 'viem';
import { GovernanceError } from '../errors.ts';
import { ifPresent, requirePresent } from './absent.ts';
import { readLogs } from './read-logs.ts';

/** ERC-1967. */
const IMPLEMENTATION_SLOT: Hex = '0x360894a13ba1a3210667c828492db98dca3e2076cc3735a920a3ca505d382bbc';

/** DstackKms or DstackApp at one block. What the 0.6 line does not have is undefined there. */
export type ContractState = {
  readonly kind: 'kms' | 'app';
  readonly address: Address;
  readonly owner: Address;
  /** Who may take the ownership by `acceptOwnership`. */
  readonly pendingOwner: Address | undefined;
  readonly implementation: Address;
  readonly implementationHash: Hex;
  readonly policyEpoch: bigint | undefined;
  readonly guardians: readonly Address[];
  /** Seconds for which each loosening has to be public before it can be made; 0 for none. */
  readonly policyDelay: bigint | undefined;
  /** Unix time since when that has held without a gap; 0 when it does not hold for the present code. */
  readonly policyDelaySince: bigint | undefined;
  /** DstackKms only. */
  readonly paused: boolean | undefined;
  /** DstackKms only: the code of apps that its factory makes. */
  readonly appImplementation: Address | undefined;
  /** DstackApp only: its code can never be replaced. */
  readonly upgradesDisabled: boolean | undefined;
  /** DstackApp only: the device list is not consulted. */
  readonly allowAnyDevice: boolean | undefined;
};

/** @throws GovernanceError `not-found` when there is no such contract */
export async function readContractState(
  client: PublicClient,
  kind: 'kms' | 'app',
  address: Address,
  at: bigint,
  fromBlock: bigint,
): Promise<ContractState> {
  const [kms, app] = [
    { address, abi: dstackKmsAbi, blockNumber: at } as const,
    { address, abi: dstackAppAbi, blockNumber: at } as const,
  ];
  const isKms = kind === 'kms';
  const word = await client.getStorageAt({ address, slot: IMPLEMENTATION_SLOT, blockNumber: at });
  if (word === undefined || /^0x0*$/.test(word)) {
    throw new GovernanceError('not-found', `${address} is no proxy of ${isKms ? 'DstackKms' : 'DstackApp'}`);
  }
  const implementation = getAddress(`0x${word.slice(-40)}`);
  const owner = await requirePresent(
    client.readContract({ ...kms, functionName: 'owner' }),
    () => new GovernanceError('not-found', `${address} has no owner: it is no contract of dstack`),
  );
  const policyDelay = await ifPresent(client.readContract({ ...kms, functionName: 'policyDelay' }));
  const since =
    policyDelay === undefined || policyDelay === 0n
      ? undefined
      : client.readContract({ ...kms, functionName: 'policyDelaySince', args: [policyDelay] });
  const [
    code,
    pending,
    policyEpoch,
    guardians,
    policyDelaySince,
    paused,
    appImplementation,
    saysUpgradesDisabled,
    allowAnyDevice,
    flags,
  ] = await Promise.all([
    client.getCode({ address: implementation, blockNumber: at }),
    ifPresent(client.readContract({ ...kms, functionName: 'pendingOwner' })),
    ifPresent(client.readContract({ ...kms, functionName: 'policyEpoch' })),
    readGuardians(client, address, at, fromBlock),
    since === undefined ? undefined : ifPresent(since),
    isKms ? ifPresent(client.readContract({ ...kms, functionName: 'paused' })) : undefined,
    isKms
      ? requirePresent(
          client.readContract({ ...kms, functionName: 'appImplementation' }),
          () => new GovernanceError('not-found', `${address} is no DstackKms: it has no code for apps`),
        )
      : undefined,
    isKms ? undefined : ifPresent(client.readContract({ ...app, functionName: 'upgradesDisabled' })),
    isKms ? undefined : ifPresent(client.readContract({ ...app, functionName: 'allowAnyDevice' })),
    isKms ? undefined : client.getStorageAt({ address, slot: APP_FLAGS_SLOT, blockNumber: at }),
  ]);
  // The 0.6 line has the flag, and no function for it.
  const upgradesDisabled =
    saysUpgradesDisabled ??
    (flags === undefined || allowAnyDevice === undefined
      ? undefined
      : upgradesDisabledFrom(flags, allowAnyDevice));
  return {
    ...{
      kind,
      address: getAddress(address),
      owner,
      implementation,
      policyEpoch,
      guardians,
      paused,
      policyDelay,
      policyDelaySince,
    },
    pendingOwner: pending === zeroAddress ? undefined : pending,
    implementationHash: keccak256(code ?? '0x'),
    ...{ appImplementation, upgradesDisabled, allowAnyDevice },
  };
}

/** Accounts that were ever named and still are guardians. */
async function readGuardians(
  client: PublicClient,
  address: Address,
  at: bigint,
  fromBlock: bigint,
): Promise<Address[]> {
  const events = [getAbiItem({ abi: dstackKmsAbi, name: 'GuardianSet' })];
  const logs = await readLogs(client, { address: [address], events, fromBlock, toBlock: at });
  const named = [...new Set(logs.map(({ args }) => args.guardian))];
  const read = { address, abi: dstackKmsAbi, blockNumber: at, functionName: 'isGuardian' } as const;
  const holds = await Promise.all(named.map((account) => client.readContract({ ...read, args: [account] })));
  return named.filter((_, index) => holds[index]);
}
