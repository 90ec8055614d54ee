/**
 * A policy that keeps what it read, beside a reference that reads everything at the head: blocks, revocations, expiries,
 * upgrades, reorganisations and a misbehaving endpoint in any order. What the policy allows, the reference allowed at a
 * head that was there no longer ago than a head may be reused.
 */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import {
  type AppState,
  appIdOf,
  type Behaviour,
  type ContractState,
  ContractWorld,
  isAllowed,
  KMS,
  startWorldNode,
  type WorldBlock,
  type WorldNode,
} from '../test/contract-world.ts';
import { facts } from '../test/facts.ts';
import type { Finality } from './chain-options.ts';
import { type ChainPolicy, chainPolicy } from './chain-policy.ts';

const TIME_LIMIT_MS = 15_000;
const APPS = 4;
const infos = Array.from({ length: APPS }, (_, index) => facts({ appId: appIdOf(index) }));

type Change =
  | { readonly type: 'nothing' | 'image' | 'upgrade-kms' | 'expire-image' }
  | { readonly type: 'toggle' | 'count' | 'expire' | 'upgrade'; readonly app: number };
type Step =
  | { readonly type: 'ask'; readonly apps: readonly number[] }
  | { readonly type: 'mine'; readonly changes: readonly Change[] }
  | { readonly type: 'reorganise'; readonly depth: number; readonly blocks: readonly Change[] }
  | {
      readonly type: 'misbehave';
      readonly node: number;
      readonly how: Behaviour['type'];
      readonly ago: number;
    }
  | { readonly type: 'pause'; readonly ms: number }
  | { readonly type: 'settle' }
  | { readonly type: 'later' };

const settle: Step = { type: 'settle' };
const later: Step = { type: 'later' };
const app = fc.nat(APPS - 1);
const change: fc.Arbitrary<Change> = fc.oneof(
  fc.record({ type: fc.constantFrom('nothing', 'image', 'upgrade-kms', 'expire-image') }),
  { arbitrary: fc.record({ type: fc.constantFrom('toggle', 'count', 'expire', 'upgrade'), app }), weight: 3 },
);
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    arbitrary: fc.record({ type: fc.constant('ask'), apps: fc.array(app, { minLength: 1, maxLength: 6 }) }),
    weight: 4,
  },
  {
    arbitrary: fc.record({ type: fc.constant('mine'), changes: fc.array(change, { maxLength: 2 }) }),
    weight: 4,
  },
  fc.record({
    type: fc.constant('reorganise'),
    depth: fc.integer({ min: 1, max: 3 }),
    blocks: fc.array(change, { minLength: 1, maxLength: 4 }),
  }),
  fc.record({
    type: fc.constant('misbehave'),
    node: fc.nat(2),
    how: fc.constantFrom('honest', 'dead', 'slow', 'stale', 'liar'),
    ago: fc.nat(3),
  }),
  { arbitrary: fc.record({ type: fc.constant('pause'), ms: fc.integer({ min: 1, max: 25 }) }), weight: 4 },
  { arbitrary: fc.constantFrom<Step>(settle, settle, later), weight: 3 },
);

/** What random steps seldom come to. */
const story: fc.Arbitrary<Step[]> = fc.oneof(
  // A permission that was followed by its counter for a while ends by time alone.
  app.map((one): Step[] => [
    { type: 'mine', changes: [{ type: 'expire', app: one }] },
    ...[settle, settle, settle, later],
  ]),
  app.map((one): Step[] => [
    settle,
    { type: 'misbehave', node: one % 3, how: 'liar', ago: 0 },
    { type: 'mine', changes: [{ type: 'toggle', app: one }] },
    later,
  ]),
  // On another branch the same counter stands for another history.
  app.map((one): Step[] => [
    settle,
    { type: 'mine', changes: [{ type: 'count', app: one }] },
    settle,
    {
      type: 'reorganise',
      depth: 3,
      blocks: [{ type: 'toggle', app: one }, { type: 'nothing' }, { type: 'nothing' }, { type: 'nothing' }],
    },
    later,
  ]),
);
const steps: fc.Arbitrary<Step[]> = fc
  .array(fc.oneof({ arbitrary: step.map((one) => [one]), weight: 12 }, { arbitrary: story, weight: 1 }), {
    minLength: 6,
    maxLength: 24,
  })
  .map((parts) => parts.flat());

/** Apps 0 and 1 count their changes, 2 and 3 do not; DstackKms does or does not. */
function initialState(counts: boolean): ContractState {
  const one: AppState = { allowed: true, counts: true, epoch: 0, notAfter: 0, implementation: 7 };
  const apps = Array.from({ length: APPS }, (_, index) => ({ ...one, counts: index < 2 }));
  return { counts, epoch: 0, imageAllowed: true, imageNotAfter: 0, implementation: 9, apps };
}

function changed(state: ContractState, what: Change, time: number): ContractState {
  const epoch = state.epoch + 1;
  switch (what.type) {
    case 'nothing':
      return state;
    case 'image':
      return { ...state, imageAllowed: !state.imageAllowed, epoch };
    case 'expire-image':
      return { ...state, imageNotAfter: state.imageNotAfter === 0 ? time + 5 : 0, epoch };
    case 'upgrade-kms':
      return { ...state, implementation: state.implementation + 1, imageAllowed: !state.imageAllowed };
    default: {
      const old = state.apps[what.app]!;
      const next = {
        count: { ...old, epoch: old.epoch + 1 },
        toggle: { ...old, allowed: !old.allowed, epoch: old.epoch + 1 },
        expire: { ...old, notAfter: old.notAfter === 0 ? time + 5 : 0, epoch: old.epoch + 1 },
        // Another implementation need not count.
        upgrade: { ...old, allowed: !old.allowed, implementation: old.implementation + 1 },
      }[what.type];
      return { ...state, apps: state.apps.with(what.app, next) };
    }
  }
}

type Snapshot = { readonly head: WorldBlock; readonly finalized: WorldBlock };

/** The heads that there were, and since when. */
class Timeline {
  readonly heads: { readonly since: number; readonly snapshots: readonly Snapshot[] }[] = [];
  readonly #confirmations: number;

  constructor(confirmations: number) {
    this.#confirmations = confirmations;
  }

  note({ chain }: ContractWorld): void {
    const at = (height: number): WorldBlock => chain[Math.max(0, height)]!;
    const snapshotOf = (height: number): Snapshot => ({
      head: at(height),
      finalized: at(height - this.#confirmations),
    });
    this.heads.push({
      since: performance.now(),
      snapshots: [snapshotOf(chain.length - 1), snapshotOf(chain.length - 2)],
    });
  }

  /**
   * Whether the reference said yes at any head, or at all heads, that was there between two times.
   * @param spread also at the blocks before these, which endpoints may still name
   */
  decisions(
    app: number,
    from: number,
    to: number,
    spread: boolean,
  ): { any: boolean; all: boolean; count: number } {
    const seen = this.heads
      .filter(({ since }, index) => since <= to && (this.heads[index + 1]?.since ?? to) >= from)
      .flatMap(({ snapshots }) => (spread ? snapshots : snapshots.slice(0, 1)))
      .map(({ head, finalized }) => isAllowed(head, app) && isAllowed(finalized, app));
    return { any: seen.includes(true), all: !seen.includes(false), count: seen.length };
  }
}

/** At once: each of them waits most of the time. */
const WORLDS = { minLength: 6, maxLength: 6 };
const SETTLE_MS = 20;
const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

const totals = { asked: 0, hits: 0, revalidated: 0, allowed: 0, denied: 0, runs: 0 };

async function run(steps: readonly Step[], nodes: readonly WorldNode[], world: ContractWorld, setup: Setup) {
  const { reuseMs, finality } = setup;
  const timeline = new Timeline(finality === 'latest' ? 0 : Number(finality));
  timeline.note(world);
  const policy: ChainPolicy = chainPolicy({
    ...{ rpcUrls: nodes.map(({ url }) => url), kmsContract: KMS, headReuseMs: reuseMs, finality },
    ...{ endpointTimeoutMs: 1_000, now: () => world.head.timestamp },
  });
  const asking: Promise<void>[] = [];
  const ask = async (index: number): Promise<void> => {
    const began = performance.now();
    const { allowed, reason } = await policy.authorize('app', infos[index]!);
    // Where one endpoint stands still and another one happens to be late, a head may be one block behind.
    const spread = nodes.some(({ behaviour }) => behaviour.type === 'stale');
    const { any, all, count } = timeline.decisions(index, began - reuseMs, performance.now(), spread);
    totals.asked += 1;
    totals[allowed ? 'allowed' : 'denied'] += 1;
    if (allowed) expect(any, `app ${index} was allowed, at none of ${count} heads`).toBe(true);
    // A policy that denies all would be safe too.
    if (!allowed && reason === 'no')
      expect(all, `app ${index} was denied, at none of ${count} heads`).toBe(false);
  };
  /** By then whatever was before the present head must be forgotten, also if it was asked for all the time. */
  const afterReuse = async (): Promise<void> => {
    const until = performance.now() + reuseMs + 5;
    do {
      await Promise.all(infos.map((_, index) => ask(index)));
      await pause(10);
    } while (performance.now() < until);
    await Promise.all(infos.map((_, index) => ask(index)));
  };
  const mine = (changes: readonly Change[]): void => {
    const time = world.head.timestamp + 2;
    world.mine(changes.reduce((state, one) => changed(state, one, time), world.head.state));
    timeline.note(world);
  };
  try {
    for (const one of steps) {
      if (one.type === 'ask') asking.push(...one.apps.map(ask));
      else if (one.type === 'mine') mine(one.changes);
      else if (one.type === 'pause') await pause(one.ms);
      else if (one.type === 'settle') {
        // All are asked for at blocks without changes: from then on, what counts is followed by its counter.
        for (let block = 0; block < 2; block++) {
          await Promise.all(infos.map((_, index) => ask(index)));
          mine([]);
          await pause(SETTLE_MS);
        }
      } else if (one.type === 'reorganise') {
        world.forget(one.depth);
        for (const block of one.blocks) mine([block]);
      } else if (one.type === 'later') {
        await afterReuse();
      } else {
        const { ago, how: type, node } = one;
        const block = world.chain.at(-1 - ago) ?? world.chain[0]!;
        // One of three at most.
        for (const each of nodes) each.behaviour = { type: 'honest' };
        nodes[node]!.behaviour =
          type === 'slow'
            ? { type, ms: 15 }
            : type === 'stale'
              ? { type, block }
              : type === 'liar'
                ? { type, block: ago === 0 ? 'allows all' : block }
                : { type };
      }
    }
    await Promise.all(asking);
    await afterReuse();
    const { hits, revalidated } = policy.status().decisions;
    totals.hits += hits;
    totals.revalidated += revalidated;
    totals.runs += 1;
  } finally {
    await Promise.allSettled(asking);
    policy.close?.();
    for (const node of nodes) node.behaviour = { type: 'honest' };
  }
}

type Setup = { readonly counts: boolean; readonly reuseMs: number; readonly finality: Finality };
const setup: fc.Arbitrary<Setup> = fc.record({
  counts: fc.constantFrom(true, true, false),
  reuseMs: fc.constantFrom(0, 30, 60, 120),
  finality: fc.constantFrom<Finality>('latest', 'latest', 2),
});

test('never allows what was denied at every head of the time that a head may serve', async () => {
  const deadline = performance.now() + TIME_LIMIT_MS;
  const one = async (setup: Setup, steps: readonly Step[]): Promise<void> => {
    const world = new ContractWorld(initialState(setup.counts));
    for (let block = 0; block < 4; block++) world.mine(world.head.state);
    const nodes = await Promise.all([1, 2, 3].map(() => startWorldNode(world)));
    try {
      await run(steps, nodes, world, setup);
    } finally {
      await Promise.all(nodes.map((node) => node.close()));
    }
  };
  await fc.assert(
    fc.asyncProperty(fc.array(fc.tuple(setup, steps), WORLDS), async (worlds) => {
      if (performance.now() > deadline) return;
      const ended = await Promise.allSettled(worlds.map(([setup, steps]) => one(setup, steps)));
      for (const result of ended) if (result.status === 'rejected') throw result.reason;
    }),
    { numRuns: 40, endOnFailure: true },
  );
  // It saw what it is about.
  expect(totals.runs).toBeGreaterThan(3);
  for (const count of [totals.hits, totals.revalidated, totals.allowed, totals.denied]) {
    expect(count).toBeGreaterThan(10);
  }
}, 60_000);
