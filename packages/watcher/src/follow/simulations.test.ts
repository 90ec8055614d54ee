/** What would fail on a real chain is told before anybody executes it; what waits for something else is not. */
import { type Anvil, type ChainClient, deployKms, dstackKmsAbi, transact } from '@dstack-cloud/contracts';
import { encodeMultiSend, safeTx } from '@dstack-cloud/governance';
import { type Abi, type Address, encodeFunctionData, type Hex, zeroAddress, zeroHash } from 'viem';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { ChainReader } from '../chain/chain-reader.ts';
import { GovernanceModel } from '../model/governance-model.ts';
import { deployTimelock, startChain } from '../test/real-chain.ts';
import { Simulations } from './simulations.ts';

const hash = (digit: string): Hex => `0x${digit.repeat(64)}`;
const call = (functionName: string, ...args: unknown[]): Hex =>
  encodeFunctionData({ abi: dstackKmsAbi as Abi, functionName, args });
const GOOD = call('addOsImageHash', hash('1'));
const BAD = call('addOsImageHash', zeroHash);

let anvil: Anvil;
let owner: ChainClient;
let reader: ChainReader;
let timelock: Address;
/** One that the Timelock owns; one that in addition has a policy delay. */
let kms: Address;
let slow: Address;
let multiSend: Address;
let model: GovernanceModel;
let simulations: Simulations;
const known = (): Map<string, { kind: 'kms' | 'multi-send'; name: string }> =>
  new Map([
    [kms.toLowerCase(), { kind: 'kms', name: 'DstackKms' }],
    [multiSend, { kind: 'multi-send', name: 'batch' }],
  ]);

beforeAll(async () => {
  const chain = await startChain();
  anvil = chain.anvil;
  owner = await chain.client(0);
  timelock = await deployTimelock(owner, 1n);
  kms = (await deployKms({ client: owner })).kms;
  slow = (await deployKms({ client: owner })).kms;
  await transact(owner, slow, dstackKmsAbi as Abi, 'setPolicyDelay', [3_600n]);
  for (const one of [kms, slow])
    await transact(owner, one, dstackKmsAbi as Abi, 'transferOwnership', [timelock]);
  multiSend = `0x${'9'.repeat(40)}`;
  reader = new ChainReader({ rpcUrls: [anvil.rpcUrl], kmsContract: kms, chainId: 31_337 });
}, 180_000);
afterAll(async () => {
  reader?.close();
  await anvil?.stop();
});
beforeEach(() => {
  model = new GovernanceModel();
  simulations = new Simulations();
});

type Scheduled = { readonly target?: Address; readonly data: Hex; readonly value?: string };
function pending(digit: string, calls: readonly Scheduled[], predecessor: Hex = zeroHash): void {
  model.timelock(timelock.toLowerCase()).operations.set(hash(digit), {
    ...{ id: hash(digit), predecessor, delay: 1, readyAt: 1, state: 'pending', ended: undefined },
    calls: calls.map(({ target = kms, data, value = '0' }) => ({ target, data, value })),
    scheduled: { block: 1, time: 0, tx: hash('e'), sender: zeroAddress },
  });
}
const failing = async (now = 0): Promise<string[]> => {
  const { alerts, error } = await simulations.try(reader, model, [], known(), now);
  expect(error).toBeUndefined();
  return alerts.map(({ text }) => /^Operation 0x(.)/.exec(text)![1]!);
};

test.each<[string, readonly Scheduled[], boolean]>([
  ['what the contract refuses', [{ data: BAD }], true],
  ['what it takes', [{ data: GOOD }], false],
  ['a batch whose first call it refuses', [{ data: BAD }, { data: GOOD }], true],
  ['a batch whose later calls may need those before', [{ data: GOOD }, { data: BAD }], false],
  ['what the Timelock cannot pay', [{ data: '0x', value: '1' }], true],
  ['what it need not pay', [{ target: zeroAddress, data: '0x' }], false],
  ['data that was too long to keep', [{ data: '0x… (40000 characters)' as Hex }], false],
])('%s', async (_, calls, fails) => {
  pending('1', calls);
  expect(await failing()).toEqual(fails ? ['1'] : []);
});

test('a call that has to be announced before may still be', async () => {
  pending('1', [{ target: slow, data: GOOD }]);
  pending('2', [{ target: slow, data: call('setAppImplementation', zeroAddress) }]);
  pending('3', [{ target: kms, data: call('setAppImplementation', zeroAddress) }]);
  expect(await failing()).toEqual(['3']);
});

test('what waits for another operation is tried after that one', async () => {
  pending('1', [{ data: GOOD }]);
  pending('2', [{ data: BAD }], hash('1'));
  expect(await failing()).toEqual([]);
  model.timelock(timelock.toLowerCase()).operations.get(hash('1'))!.state = 'done';
  expect(await failing()).toEqual(['2']);
});

test('what did not fail is tried again later, and what is over is not', async () => {
  pending('1', [{ data: BAD }]);
  expect(await failing(0)).toEqual(['1']);
  expect(await failing(599)).toEqual([]);
  expect(await failing(600)).toEqual(['1']);
  model.timelock(timelock.toLowerCase()).operations.get(hash('1'))!.state = 'cancelled';
  expect(await failing(9_999)).toEqual([]);
});

test('of a hundred proposals each is tried in turn, some in each pass', async () => {
  for (let n = 1; n <= 100; n += 1) {
    const id: Hex = `0x${n.toString(16).padStart(64, '0')}`;
    pending('0', [{ data: BAD }]);
    const { operations } = model.timelock(timelock.toLowerCase());
    operations.set(id, { ...operations.get(hash('0'))!, id });
    operations.delete(hash('0'));
  }
  const told = new Set<string>();
  for (let pass = 1; pass <= 4; pass += 1) {
    const { alerts } = await simulations.try(reader, model, [], known(), pass);
    expect(alerts.length).toBeLessThanOrEqual(32);
    for (const { id } of alerts) told.add(id);
  }
  expect(told.size).toBe(100);
});

test('of the transactions of a Safe the next is tried, also in a batch', async () => {
  const waiting = (nonce: bigint, data: Hex, inBatch = false) => ({
    ...{ safe: timelock.toLowerCase(), hash: hash(String(nonce)), signers: [], approvedBy: [], since: 0 },
    tx: inBatch
      ? {
          ...safeTx(
            { to: multiSend, value: 0n, data: encodeMultiSend([{ to: kms, value: 0n, data }]) },
            nonce,
          ),
          operation: 1 as const,
        }
      : safeTx({ to: kms, value: 0n, data }, nonce),
  });
  const rules = async (...all: ReturnType<typeof waiting>[]): Promise<string[]> =>
    (await new Simulations().try(reader, model, all, known(), 0)).alerts.map(
      ({ rule, severity, id }) => `${severity} ${rule} ${id.split('/')[1]!.slice(2, 3)}`,
    );
  expect(await rules(waiting(1n, BAD), waiting(2n, BAD))).toEqual(['critical failing-proposal 1']);
  expect(await rules(waiting(1n, GOOD), waiting(2n, BAD))).toEqual([]);
  expect(await rules(waiting(3n, BAD, true))).toEqual(['critical failing-proposal 3']);
  expect(await rules(waiting(3n, GOOD, true))).toEqual([]);
});

test('one that cannot be tried hides no other, and is said', async () => {
  pending('1', [{ target: 'no address' as Address, data: GOOD }]);
  pending('2', [{ data: BAD }]);
  const { alerts, error } = await simulations.try(reader, model, [], known(), 0);
  expect(alerts.map(({ id }) => id.slice(0, 3))).toEqual(['0x2']);
  expect(error).toMatchObject({ name: 'PolicyError' });
  // Who proposes must not be able to make endpoints look bad.
  expect(reader.endpoints).toMatchObject([{ healthy: true, failures: 0 }]);
});
