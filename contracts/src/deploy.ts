import {
  type Address,
  encodeFunctionData,
  type Hash,
  type Hex,
  parseEventLogs,
  zeroAddress,
  zeroHash,
} from 'viem';
import { dstackKmsAbi } from './abi/dstack-kms.ts';
import { type Artifact, loadArtifact, loadRelease, type Release } from './artifact.ts';
import type { ChainClient } from './chain-client.ts';
import { ContractsError } from './errors.ts';
import { deployCode, transact } from './transact.ts';

/** What `deployKms` needs. */
export type DeployKmsOptions = {
  client: ChainClient;
  /** Owner of the registry; default: the signing account. */
  owner?: Address;
  /** Implementation behind app proxies; default: deploy a new one. `null` leaves it unset. */
  appImplementation?: Address | null;
  /** Code of an earlier release; default: this one. */
  release?: Release;
};

/** Addresses of a new KMS domain. */
export type KmsDeployment = {
  /** The proxy: the address that everybody uses. */
  kms: Address;
  kmsImplementation: Address;
  appImplementation: Address | null;
  transactionHash: Hash;
  blockNumber: bigint;
};

/** Deploy DstackApp's implementation, DstackKms' implementation and the KMS proxy. */
export async function deployKms(options: DeployKmsOptions): Promise<KmsDeployment> {
  const { client, owner = client.account.address } = options;
  const appImplementation =
    options.appImplementation === undefined
      ? await deployAppImplementation(client, options.release)
      : options.appImplementation;
  const kmsImplementation = await deployKmsImplementation(client, options.release);
  const setUp = encodeFunctionData({
    abi: dstackKmsAbi,
    functionName: 'initialize',
    args: [owner, appImplementation ?? zeroAddress],
  });
  const proxy = loadArtifact('ERC1967Proxy');
  const { address, receipt } = await deployCode(client, proxy.abi, proxy.bytecode, [
    kmsImplementation,
    setUp,
  ]);
  const { transactionHash, blockNumber } = receipt;
  return { kms: address, kmsImplementation, appImplementation, transactionHash, blockNumber };
}

/** Deploy the contract behind app proxies. */
export async function deployAppImplementation(client: ChainClient, release?: Release): Promise<Address> {
  const { abi, bytecode } = codeOf('DstackApp', release);
  return (await deployCode(client, abi, bytecode)).address;
}

/** Deploy the contract behind KMS proxies. */
export async function deployKmsImplementation(client: ChainClient, release?: Release): Promise<Address> {
  const { abi, bytecode } = codeOf('DstackKms', release);
  return (await deployCode(client, abi, bytecode)).address;
}

function codeOf(name: 'DstackKms' | 'DstackApp', release: Release | undefined): Artifact {
  return release === undefined ? loadArtifact(name) : loadRelease(release, name);
}

/** What `deployApp` needs. */
export type DeployAppOptions = {
  client: ChainClient;
  /** Proxy of the KMS whose factory creates the app. */
  kms: Address;
  /** Owner of the app policy; default: the signing account. */
  owner?: Address;
  /** Fix the implementation for ever; default false. */
  disableUpgrades?: boolean;
  /** Do not consult the device list; default false. */
  allowAnyDevice?: boolean;
  /** First allowed device, 32 bytes; default none. */
  deviceId?: Hex;
  /** First allowed compose hash, 32 bytes; default none. */
  composeHash?: Hex;
};

/** A new app contract. */
export type AppDeployment = {
  /** Address of the app's proxy, which is its app id. */
  appId: Address;
  transactionHash: Hash;
  blockNumber: bigint;
};

/** Create and register an app through the factory of the KMS. */
export async function deployApp(options: DeployAppOptions): Promise<AppDeployment> {
  const { client, kms, owner = client.account.address } = options;
  const receipt = await transact(client, kms, dstackKmsAbi, 'deployAndRegisterApp', [
    owner,
    options.disableUpgrades ?? false,
    options.allowAnyDevice ?? false,
    options.deviceId ?? zeroHash,
    options.composeHash ?? zeroHash,
  ]);
  const [deployed] = parseEventLogs({
    abi: dstackKmsAbi,
    eventName: 'AppDeployedViaFactory',
    logs: receipt.logs.filter(({ address }) => address.toLowerCase() === kms.toLowerCase()),
  });
  if (!deployed) {
    throw new ContractsError(
      'event-missing',
      `Transaction ${receipt.transactionHash} has no AppDeployedViaFactory event: ${kms} is no DstackKms`,
    );
  }
  const { transactionHash, blockNumber } = receipt;
  return { appId: deployed.args.appId, transactionHash, blockNumber };
}
