import { dstackKmsAbi } from '@dstack-cloud/contracts';
import { type Address, getAbiItem, type Hex, isAddressEqual, type PublicClient, zeroAddress } from 'viem';
import { GovernanceError } from '../errors.ts';
import { readSafe, type SafeState } from '../safe/read-safe.ts';
import { readTimelock, type TimelockState } from '../timelock/read-timelock.ts';
import { unreachable } from './absent.ts';
import { type ContractState, readContractState } from './read-contract-state.ts';
import { readLogs } from './read-logs.ts';

/** Apps that are read, at most; more have to be named. */
const MAX_APPS = 200;

/** What an address is, as far as governance can tell. */
export type Principal =
  | { readonly kind: 'account'; readonly address: Address }
  | { readonly kind: 'safe'; readonly address: Address; readonly safe: SafeState }
  | { readonly kind: 'timelock'; readonly address: Address; readonly timelock: TimelockState }
  /** Code that is neither: what it takes to act through it is unknown. */
  | { readonly kind: 'contract'; readonly address: Address };

/** Everything about who governs one KMS domain, at one block. */
export type Governance = {
  readonly chainId: number;
  readonly block: { readonly number: bigint; readonly hash: Hex; readonly timestamp: bigint };
  readonly kms: ContractState;
  readonly apps: readonly ContractState[];
  /** Registered addresses that are no DstackApp, such as contracts of others. */
  readonly otherApps: readonly Address[];
  /** Owners, guardians, role holders, by lower-case address. */
  readonly principals: ReadonlyMap<string, Principal>;
};

/** What to read. */
export type GovernanceQuery = {
  readonly kms: Address;
  /** Default: all that are registered. */
  readonly apps?: readonly Address[];
  /** Where the contracts were deployed, or earlier. */
  readonly fromBlock?: bigint;
  /** Default: the latest. */
  readonly block?: bigint;
};

/**
 * Reads who governs, from one block: owners, and behind them the Timelock, its proposers, and their Safe.
 * @throws GovernanceError
 */
export async function readGovernance(client: PublicClient, query: GovernanceQuery): Promise<Governance> {
  return await readAll(client, query).catch((error: unknown) => {
    throw unreachable(error);
  });
}

async function readAll(client: PublicClient, query: GovernanceQuery): Promise<Governance> {
  const { kms: kmsAddress, fromBlock = 0n } = query;
  const [chainId, block] = await Promise.all([
    client.getChainId(),
    query.block === undefined
      ? client.getBlock({ blockTag: 'latest' })
      : client.getBlock({ blockNumber: query.block }),
  ]);
  const { number: at, hash, timestamp } = block;
  const kms = await readContractState(client, 'kms', kmsAddress, at, fromBlock);
  const registered = query.apps ?? (await readApps(client, kmsAddress, at, fromBlock));
  const otherApps: Address[] = [];
  const apps: ContractState[] = [];
  for (const app of registered) {
    // Registration is open to everybody, so that what is registered may be anything.
    const state = await readContractState(client, 'app', app, at, fromBlock).catch((error: unknown) => {
      if (error instanceof GovernanceError && error.code === 'not-found') return undefined;
      throw error;
    });
    if (state === undefined) otherApps.push(app);
    else apps.push(state);
  }
  const principals = new Map<string, Principal>();
  const waiting = [kms, ...apps].flatMap(({ owner, pendingOwner, guardians }) => [
    owner,
    ...(pendingOwner === undefined ? [] : [pendingOwner]),
    ...guardians,
  ]);
  for (let address = waiting.shift(); address !== undefined; address = waiting.shift()) {
    const key = address.toLowerCase();
    if (isAddressEqual(address, zeroAddress) || principals.has(key)) continue;
    const principal = await readPrincipal(client, address, { number: at, timestamp }, fromBlock);
    principals.set(key, principal);
    if (principal.kind === 'timelock') waiting.push(...Object.values(principal.timelock.roles).flat());
  }
  // The block may have been replaced while its state was read.
  const after = await client.getBlock({ blockNumber: at });
  if (after.hash !== hash) {
    throw new GovernanceError('chain-inconsistent', `Block ${at} was replaced while it was read`, {
      hint: 'Run the command again',
    });
  }
  return { chainId, block: { number: at, hash, timestamp }, kms, apps, otherApps, principals };
}

/** What this address is. */
export async function readPrincipal(
  client: PublicClient,
  address: Address,
  block: { readonly number: bigint; readonly timestamp: bigint },
  fromBlock: bigint,
): Promise<Principal> {
  const code = await client.getCode({ address, blockNumber: block.number });
  if (code === undefined || code === '0x') return { kind: 'account', address };
  const safe = await orUndefined(readSafe(client, address, block.number));
  if (safe !== undefined) return { kind: 'safe', address, safe };
  const timelock = await orUndefined(readTimelock(client, address, block, fromBlock));
  return timelock === undefined ? { kind: 'contract', address } : { kind: 'timelock', address, timelock };
}

async function orUndefined<T>(reading: Promise<T>): Promise<T | undefined> {
  return await reading.catch((error: unknown) => {
    if (error instanceof GovernanceError && error.code === 'not-found') return undefined;
    throw error;
  });
}

async function readApps(
  client: PublicClient,
  kms: Address,
  at: bigint,
  fromBlock: bigint,
): Promise<Address[]> {
  const events = [getAbiItem({ abi: dstackKmsAbi, name: 'AppRegistered' })];
  const logs = await readLogs(client, { address: [kms], events, fromBlock, toBlock: at });
  const apps = [...new Set(logs.map(({ args }) => args.appId))];
  if (apps.length <= MAX_APPS) return apps;
  throw new GovernanceError('too-much', `${apps.length} apps are registered, more than ${MAX_APPS}`, {
    hint: 'Name those that are yours',
  });
}
