import {
  type Anvil,
  buildContracts,
  type ChainClient,
  connectChain,
  deployApp,
  deployCode,
  deployKms,
  dstackKmsAbi,
  loadArtifact,
  startAnvil,
  transact,
} from '@dstack-cloud/contracts';
import { type Address, type Hex, type PublicClient, zeroAddress, zeroHash } from 'viem';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { operationId } from '../timelock/operation.ts';
import { timelockAbi } from '../timelock/timelock-abi.ts';
import { readGovernance } from './read-governance.ts';
import { readLogs } from './read-logs.ts';

const DELAY = 3_600n;
const GRACE = 86_400n;
const hash = (digit: string): Hex => `0x${digit.repeat(64)}`;

let anvil: Anvil;
let owner: ChainClient;
let kms: Address;
let app: Address;
let timelock: Address;
const client = (): PublicClient => owner.public as unknown as PublicClient;
const account = (index: number): Address => anvil.accounts[index]!.address;
const request = (method: string, params: unknown[] = []): Promise<unknown> =>
  (owner.public.request as (request: object) => Promise<unknown>)({ method, params });

beforeAll(async () => {
  await buildContracts();
  anvil = await startAnvil();
  owner = await connectChain({ rpcUrl: anvil.rpcUrl, privateKey: anvil.accounts[0]!.privateKey });
  kms = (await deployKms({ client: owner })).kms;
  app = (await deployApp({ client: owner, kms })).appId;
  const { abi, bytecode } = loadArtifact('DstackTimelock');
  const roles = [[account(0)], [zeroAddress], zeroAddress];
  timelock = (await deployCode(owner, abi, bytecode, [DELAY, ...roles, GRACE])).address;
  await transact(owner, kms, dstackKmsAbi, 'setGuardian', [account(5), true]);
  await transact(owner, kms, dstackKmsAbi, 'setGuardian', [account(6), true]);
  await transact(owner, kms, dstackKmsAbi, 'setGuardian', [account(6), false]);
  await transact(owner, kms, dstackKmsAbi, 'registerApp', [account(9)]);
  await transact(owner, kms, dstackKmsAbi, 'transferOwnership', [timelock]);
}, 120_000);
afterAll(async () => anvil?.stop());

describe('who governs', () => {
  test('owner, guardians, roles and apps are read from one block', async () => {
    const { kms: state, apps, otherApps, principals, chainId } = await readGovernance(client(), { kms });
    expect(state).toMatchObject({ kind: 'kms', owner: timelock, guardians: [account(5)], paused: false });
    expect(apps).toMatchObject([{ kind: 'app', address: app, owner: account(0), upgradesDisabled: false }]);
    expect(otherApps).toEqual([account(9)]);
    expect(chainId).toBe(31_337);
    expect(principals.get(timelock.toLowerCase())).toMatchObject({
      kind: 'timelock',
      timelock: {
        ...{ minDelay: DELAY, gracePeriod: GRACE, isOpen: true },
        roles: {
          proposer: [account(0)],
          canceller: [account(0)],
          executor: [zeroAddress],
          admin: [timelock],
        },
      },
    });
    expect(principals.get(account(5).toLowerCase())).toMatchObject({ kind: 'account' });
  });

  test('an operation is waiting, ready, expired, done or cancelled, and found again after each', async () => {
    const data = '0x5c975abb';
    const salts = [hash('1'), hash('2'), zeroHash];
    for (const salt of salts) {
      await transact(owner, timelock, timelockAbi, 'schedule', [kms, 0n, data, zeroHash, salt, DELAY]);
    }
    const batch = [[kms], [0n], [data], zeroHash, hash('4')];
    await transact(owner, timelock, timelockAbi, 'scheduleBatch', [...batch, DELAY]);
    const states = async (): Promise<string[]> => {
      const { principals } = await readGovernance(client(), { kms });
      const found = principals.get(timelock.toLowerCase());
      return found?.kind === 'timelock' ? found.timelock.operations.map(({ state }) => state) : [];
    };
    expect(await states()).toEqual(['waiting', 'waiting', 'waiting', 'waiting']);
    const id = operationId({
      calls: [{ to: kms, value: 0n, data }],
      predecessor: zeroHash,
      salt: hash('2'),
      isBatch: false,
    });
    await transact(owner, timelock, timelockAbi, 'cancel', [id]);
    await request('evm_increaseTime', [Number(DELAY)]);
    await request('evm_mine');
    expect(await states()).toEqual(['ready', 'cancelled', 'ready', 'ready']);
    await transact(owner, timelock, timelockAbi, 'executeBatch', batch);
    await request('evm_increaseTime', [Number(GRACE) + 60]);
    await request('evm_mine');
    expect(await states()).toEqual(['expired', 'cancelled', 'expired', 'done']);
    // Scheduled once more, it counts once.
    await transact(owner, timelock, timelockAbi, 'schedule', [kms, 0n, data, zeroHash, hash('2'), DELAY]);
    expect(await states()).toEqual(['expired', 'expired', 'done', 'waiting']);
  });

  test('an endpoint that changes the calls of an operation is found out', async () => {
    const lying = {
      ...client(),
      getLogs: async (query: unknown) => {
        const logs = (await client().getLogs(query as never)) as unknown as { args: { target?: Address } }[];
        return logs.map((log) => ({
          ...log,
          args: { ...log.args, ...(log.args.target && { target: app }) },
        }));
      },
    } as unknown as PublicClient;
    await expect(readGovernance(lying, { kms })).rejects.toMatchObject({ code: 'chain-inconsistent' });
  });

  test('an endpoint that does not answer is no contract that lacks a function', async () => {
    const silent = await connectChain({ rpcUrl: anvil.rpcUrl, privateKey: anvil.accounts[0]!.privateKey });
    const dead = {
      ...silent.public,
      readContract: () =>
        Promise.reject(Object.assign(new Error('fetch failed'), { name: 'HttpRequestError' })),
    } as unknown as PublicClient;
    await expect(readGovernance(dead, { kms })).rejects.toThrow('fetch failed');
  });

  test('a range that the endpoint refuses is halved; a refusal of every range is an error', async () => {
    const ranges: bigint[] = [];
    const strict = {
      getLogs: async ({ fromBlock, toBlock }: { fromBlock: bigint; toBlock: bigint }) => {
        ranges.push(toBlock - fromBlock + 1n);
        if (toBlock - fromBlock >= 3_000n) throw new Error('query returned more than 10000 results');
        return [];
      },
    } as unknown as PublicClient;
    const query = { address: [kms], events: [], fromBlock: 0n, toBlock: 9_999n };
    expect(await readLogs(strict, query)).toEqual([]);
    expect(ranges.filter((length) => length <= 3_000n).reduce((a, b) => a + b)).toBe(10_000n);
    const never = { getLogs: () => Promise.reject(new Error('no')) } as unknown as PublicClient;
    await expect(readLogs(never, query)).rejects.toMatchObject({ code: 'chain-unreachable' });
  });
});
