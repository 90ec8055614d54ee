/** Permissions that outlive their block: when they do, when they must not, and what that costs. */
import { afterEach, describe, expect, test, vi } from 'vitest';
import {
  type AppState,
  appIdOf,
  type ContractState,
  ContractWorld,
  KMS,
  startWorldNode,
  type WorldNode,
} from '../../test/contract-world.ts';
import { facts } from '../../test/facts.ts';
import type { ChainPolicyOptions } from '../chain-options.ts';
import { type ChainPolicy, chainPolicy } from '../chain-policy.ts';

const COUNTING: AppState = { allowed: true, counts: true, epoch: 0, notAfter: 0, implementation: 7 };
const SILENT: AppState = { ...COUNTING, counts: false };
const DECISION = '1e079198';
const EPOCH = 'a921d322';

const stateOf = (apps: readonly AppState[], changes: Partial<ContractState> = {}): ContractState => ({
  ...{ counts: true, epoch: 5, imageAllowed: true, imageNotAfter: 0, implementation: 9 },
  apps,
  ...changes,
});

const open: { close(): unknown }[] = [];
afterEach(async () => {
  await Promise.all(open.splice(0).map((one) => one.close()));
});

type Setting = {
  world: ContractWorld;
  node: WorldNode;
  policy: ChainPolicy;
  /** Asks for each app, and waits until the policy has seen the head. */
  askAll(): Promise<boolean[]>;
  executed(selector: string): number;
};

async function setting(state: ContractState, options: Partial<ChainPolicyOptions> = {}): Promise<Setting> {
  const world = new ContractWorld(state);
  const node = await startWorldNode(world);
  const policy = chainPolicy({
    ...{ rpcUrls: [node.url], kmsContract: KMS, headReuseMs: 2_000 },
    now: () => world.head.timestamp,
    ...options,
  });
  open.push(node, { close: () => policy.close?.() });
  const all = state.apps.map((_, index) => facts({ appId: appIdOf(index) }));
  return {
    world,
    node,
    policy,
    askAll: async () => {
      const decisions = await Promise.all(all.map((info) => policy.authorize('app', info)));
      return decisions.map(({ allowed }) => allowed);
    },
    executed: (selector) => node.executed.get(selector) ?? 0,
  };
}

/** A new block, and the time until requests see it. */
async function next({ world, policy, askAll }: Setting, state: ContractState, seconds = 2): Promise<void> {
  world.mine(state, seconds);
  const number = BigInt(world.head.number);
  await vi.waitFor(
    async () => {
      const info = facts({ appId: appIdOf(state.apps.length - 1) });
      expect((await policy.authorize('app', info)).blockNumber).toBe(number);
    },
    { timeout: 15_000, interval: 5 },
  );
  await askAll();
}

test('many are revalidated a part at a time, and all but the one that is denied now', async () => {
  for (const app of [COUNTING, SILENT]) {
    const apps = Array.from({ length: 150 }, () => app);
    const it = await setting(stateOf(apps));
    expect(await it.askAll()).toEqual(apps.map(() => true));
    const denied = apps.map((state, index) =>
      index === 100 ? { ...state, allowed: false, epoch: 1 } : state,
    );
    const { revalidated, dropped } = it.policy.status().decisions;
    it.node.largest = 0;
    await next(it, stateOf(denied));
    // Seven calls for an app that is brought to another block for the first time: no exchange is about half of them.
    expect(it.node.largest).toBeLessThan((7 * 150) / 2);
    expect(await it.askAll()).toEqual(apps.map((_, index) => index !== 100));
    expect(it.policy.status().decisions).toMatchObject({
      revalidated: revalidated + 149,
      dropped: dropped + 1,
    });
  }
});

describe('where contracts count their changes', () => {
  test('only the counters are read at a new block, and no request waits', async () => {
    const apps = Array.from({ length: 40 }, () => COUNTING);
    const it = await setting(stateOf(apps));
    expect(new Set(await it.askAll())).toEqual(new Set([true]));
    // The first revalidation reads the decisions and their counters, all later ones the counters alone.
    await next(it, stateOf(apps));
    const [decisions, epochs] = [it.executed(DECISION), it.executed(EPOCH)];
    const { misses } = it.policy.status().decisions;
    for (let block = 0; block < 3; block++) await next(it, stateOf(apps));
    expect(it.executed(DECISION)).toBe(decisions);
    expect(it.executed(EPOCH) - epochs).toBe(3 * (apps.length + 1));
    expect(it.policy.status().decisions.misses).toBe(misses);
  });

  test.each<[string, (state: ContractState) => ContractState, boolean[]]>([
    [
      'an app that counted one more is read again, the others are not',
      (state) => ({ ...state, apps: state.apps.with(1, { ...COUNTING, allowed: false, epoch: 1 }) }),
      [true, false, true],
    ],
    [
      'an app that was upgraded is read again although it did not count',
      (state) => ({ ...state, apps: state.apps.with(1, { ...COUNTING, allowed: false, implementation: 8 }) }),
      [true, false, true],
    ],
    [
      'when DstackKms counted, all are',
      (state) => ({ ...state, imageAllowed: false, epoch: 6 }),
      [false, false, false],
    ],
    [
      'when DstackKms was upgraded, all are',
      (state) => ({ ...state, imageAllowed: false, implementation: 10 }),
      [false, false, false],
    ],
    [
      'when DstackKms counts no more, all are',
      (state) => ({ ...state, imageAllowed: false, counts: false }),
      [false, false, false],
    ],
    [
      'when an app counts no more, it is',
      (state) => ({ ...state, apps: state.apps.with(0, { ...SILENT, allowed: false }) }),
      [false, true, true],
    ],
  ])('%s', async (_, change, wanted) => {
    const before = stateOf([COUNTING, COUNTING, COUNTING]);
    const it = await setting(before);
    await it.askAll();
    await next(it, before);
    await next(it, before);
    await next(it, change(before));
    expect(await it.askAll()).toEqual(wanted);
    await next(it, change(before));
    expect(await it.askAll()).toEqual(wanted);
  });

  test('a permission ends with the earliest notAfter, without any change', async () => {
    const end = 1_000_012;
    const state = stateOf([{ ...COUNTING, notAfter: end }, COUNTING], { imageNotAfter: end + 10 });
    const it = await setting(state);
    await it.askAll();
    const seen: [number, boolean[]][] = [];
    for (let block = 0; block < 12; block++) {
      await next(it, state);
      seen.push([it.world.head.timestamp, await it.askAll()]);
    }
    for (const [time, answers] of seen) expect(answers).toEqual([time <= end, time <= end + 10]);
  });

  test('a reorganisation to another branch carries nothing over, also with equal counters', async () => {
    const revoked: AppState = { ...COUNTING, allowed: false, epoch: 1 };
    const kept: AppState = { ...COUNTING, epoch: 1 };
    const it = await setting(stateOf([COUNTING, COUNTING]));
    await it.askAll();
    await next(it, stateOf([COUNTING, COUNTING]));
    await next(it, stateOf([kept, COUNTING]));
    await next(it, stateOf([kept, COUNTING]));
    expect(await it.askAll()).toEqual([true, true]);
    // Same counters, another history.
    it.world.forget(2);
    it.world.mine(stateOf([revoked, COUNTING]));
    it.world.mine(stateOf([revoked, COUNTING]));
    await next(it, stateOf([revoked, COUNTING]));
    expect(await it.askAll()).toEqual([false, true]);
    await next(it, stateOf([revoked, COUNTING]));
    expect(await it.askAll()).toEqual([false, true]);
  });
});

describe('where they do not', () => {
  test('decisions are read again at each block, before requests ask', async () => {
    const apps = Array.from({ length: 100 }, () => SILENT);
    const it = await setting(stateOf(apps, { counts: false }));
    await it.askAll();
    await next(it, stateOf(apps, { counts: false }));
    const [decisions, { misses }] = [it.executed(DECISION), it.policy.status().decisions];
    await next(it, stateOf(apps, { counts: false }));
    expect(it.executed(DECISION) - decisions).toBe(apps.length);
    expect(it.policy.status().decisions.misses).toBe(misses);
    const revoked = apps.with(7, { ...SILENT, allowed: false });
    await next(it, stateOf(revoked, { counts: false }));
    expect(await it.askAll()).toEqual(revoked.map(({ allowed }) => allowed));
  });

  test('an app without a counter is read again beside others that have one', async () => {
    const it = await setting(stateOf([COUNTING, SILENT]));
    await it.askAll();
    await next(it, stateOf([COUNTING, SILENT]));
    const decisions = it.executed(DECISION);
    await next(it, stateOf([COUNTING, SILENT]));
    expect(it.executed(DECISION) - decisions).toBe(1);
    await next(it, stateOf([COUNTING, { ...SILENT, allowed: false }]));
    expect(await it.askAll()).toEqual([true, false]);
  });
});

test('apps that ask at once share exchanges', async () => {
  const it = await setting(stateOf(Array.from({ length: 200 }, () => COUNTING)));
  expect(new Set(await it.askAll())).toEqual(new Set([true]));
  // Two heads, because the reading of the first began before the others came; then a hundred calls in each.
  expect(it.node.exchanges).toBeLessThanOrEqual(2 + 4);
});

test('what nobody asked for is not revalidated, and denials are not kept', async () => {
  const it = await setting(stateOf([COUNTING, { ...COUNTING, allowed: false }]));
  await it.askAll();
  await next(it, stateOf([COUNTING, { ...COUNTING, allowed: false }]));
  await next(it, stateOf([COUNTING, COUNTING]));
  expect(await it.askAll()).toEqual([true, true]);
});

test('with finality a permission is revalidated at both blocks', async () => {
  const state = stateOf([COUNTING, COUNTING]);
  const it = await setting(state, { finality: 2 });
  for (let block = 0; block < 4; block++) it.world.mine(state);
  await it.askAll();
  await next(it, state);
  const { misses } = it.policy.status().decisions;
  await next(it, state);
  expect(it.policy.status().decisions.misses).toBe(misses);
  await next(it, stateOf([{ ...COUNTING, allowed: false, epoch: 1 }, COUNTING]));
  expect(await it.askAll()).toEqual([false, true]);
  // Allowed again at the head and before the denial; then the denial is the finalized block.
  const restored = stateOf([{ ...COUNTING, epoch: 2 }, COUNTING]);
  for (const wanted of [true, false, true, true]) {
    await next(it, restored);
    expect(await it.askAll()).toEqual([wanted, true]);
  }
});
