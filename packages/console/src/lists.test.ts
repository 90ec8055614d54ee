/** The list of what waits at the Safe transaction service: bounded, decoded, in an order that says what comes next. */
import { dstackKmsAbi } from '@dstack-cloud/contracts';
import { roleIds, safeTx } from '@dstack-cloud/governance';
import { configSchema, type Observer, observe } from '@dstack-cloud/watcher';
import { type Abi, encodeFunctionData, type Hex, zeroAddress } from 'viem';
import { afterAll, expect, test } from 'vitest';
import { listOf } from './lists.ts';
import { overviewOf } from './overview.ts';

const account = (digit: string): Hex => `0x${digit.repeat(40)}`;
const [kms, safe, other] = ['1', '4', '5'].map(account) as [Hex, Hex, Hex];
const [first, second] = [account('a'), account('b')];
const call = (functionName: string, ...args: unknown[]): Hex =>
  encodeFunctionData({ abi: dstackKmsAbi as Abi, functionName, args });

const real = observe(
  configSchema.parse({ rpc_urls: ['http://127.0.0.1:1'], kms_contract: kms, safes: [safe] }),
);
afterAll(() => real.stop());

type Waiting = Observer['waiting'][number];
function waiting(nonce: bigint, data: Hex, more: Partial<Waiting> = {}): Waiting {
  const hash = `0x${nonce.toString(16).padStart(64, '0')}`;
  const tx = safeTx({ to: kms, value: 0n, data }, nonce);
  return { ...{ safe, hash, tx, signers: [first], approvedBy: [], since: 1 }, ...more };
}
/** An observer that sees these transactions. */
function seeing(all: readonly Waiting[]): Observer {
  for (const one of [safe, other]) Object.assign(real.model.safe(one), { threshold: 2 });
  for (const owner of [first, second]) real.model.safe(safe).owners.add(owner);
  real.model.kms.implementation = other;
  return Object.create(real, {
    status: { value: { chainId: 1, block: 1, headTime: 1, problem: undefined } },
    waiting: { value: all },
    known: { value: new Map([[kms, { kind: 'kms', name: 'DstackKms' }]]) },
  }) as Observer;
}
type Shown = { total: number; pages: number; items: Record<string, unknown>[] };
const shown = (all: readonly Waiting[], page = 1): Shown =>
  listOf(seeing(all), 'transactions', page) as unknown as Shown;

test('by Safe and nonce, with who agreed and what comes next', () => {
  const { items } = shown([
    waiting(11n, call('pause'), { safe: other }),
    waiting(9n, call('pause'), { signers: [first, second] }),
    waiting(8n, call('addOsImageHash', `0x${'7'.repeat(64)}`), { approvedBy: [second, first] }),
    waiting(10n, call('unpause')),
  ]);
  expect(items.map(({ nonce, state }) => `${String(nonce)} ${String(state)}`)).toEqual([
    '8 ready',
    '9 waiting',
    '10 signing',
    '11 signing',
  ]);
  expect(items[0]).toMatchObject({
    agreed: [
      { address: first, onChain: true },
      { address: second, onChain: true },
    ],
    lines: [`allow OS image 0x${'7'.repeat(64)}, on DstackKms`],
    threshold: 2,
  });
});

test('what excludes another, and what may do anything, is said', () => {
  const delegate = waiting(8n, call('pause'));
  const { items } = shown([
    waiting(8n, call('pause')),
    { ...delegate, tx: { ...delegate.tx, operation: 1 } },
  ]);
  expect(items.map(({ rivals }) => rivals)).toEqual([1, 1]);
  expect(String(items[1]!['lines'])).toContain('A delegatecall to');
});

test('thousands of them come in pages, and none is longer than a screen', () => {
  const long = call('multicall', [
    call('denyAdvisory', 'x'.repeat(10_000)),
    ...Array(60).fill(call('pause')),
  ]);
  const longer = call('multicall', Array(200).fill(call('denyAdvisory', 'x'.repeat(10_000))));
  const all = Array.from({ length: 3_000 }, (_, index) => waiting(BigInt(index), index % 2 ? longer : long));
  const started = performance.now();
  const { total, pages, items } = shown(all, 300);
  // Megabytes are not decoded: that took seconds for each.
  expect(performance.now() - started).toBeLessThan(5_000);
  expect(items[0]!['lines']).toHaveLength(40);
  expect(items[1]!['lines']).toEqual([
    'an unknown call to DstackKms',
    expect.stringMatching(/^ {2}Warning: /),
  ]);
  expect({ total, pages, count: items.length }).toEqual({ total: 3_000, pages: 300, count: 10 });
  expect(JSON.stringify(items).length).toBeLessThan(500_000);
});

test('the overview counts them as pending, and names the service', () => {
  const observer = seeing([waiting(8n, call('pause'))]);
  expect(overviewOf(observer, [])).toMatchObject({
    counts: { pending: 1, waiting: 1 },
    next: { nonce: '8', lines: ['pause: allow nothing, on DstackKms'] },
    service: null,
  });
});

test('before anything was read from the chain, nothing is said of the policy', () => {
  const { status } = real;
  expect(status.block).toBeNull();
  expect(overviewOf(real, [])).toMatchObject({ kms: null, counts: null, next: null, lastChange: null });
});

test('while the deployment of DstackKms was not read, blocks alone say nothing either', () => {
  const partly = seeing([]);
  partly.model.kms.implementation = zeroAddress;
  expect(overviewOf(partly, [])).toMatchObject({ kms: null, counts: null });
});

test('a role of the zero address is everybody’s; an owner with that address is none', () => {
  const observer = seeing([]);
  observer.model.timelock(other).roles.set(roleIds.executor, new Set([zeroAddress, first]));
  expect(overviewOf(observer, [])).toMatchObject({
    kms: { owner: { address: zeroAddress, kind: 'account or other contract' } },
    timelocks: [
      {
        roles: [
          {
            role: 'executor',
            accounts: [{ kind: 'anybody' }, { address: first, kind: 'account or other contract' }],
          },
        ],
      },
    ],
  });
});
