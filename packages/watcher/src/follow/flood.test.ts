/** Strangers who fill blocks with events of our contracts: nobody is blinded, and no disk is filled. */
import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as fc from 'fast-check';
import type { Hex } from 'viem';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { StateStore } from '../state/state-store.ts';
import {
  APP,
  FakeChain,
  type FakeNode,
  type FakeTransaction,
  KMS,
  numberedApp,
  startFakeNode,
} from '../test/fake-node.ts';
import { followerLab, told } from '../test/follower-lab.ts';
import { governedTopics } from './governed-topics.ts';

let chain: FakeChain;
let node: FakeNode;
beforeEach(async () => {
  chain = new FakeChain(20);
  node = await startFakeNode(chain);
  node.counts = true;
  node.maxLogs = Number.POSITIVE_INFINITY;
});
afterEach(() => node.close());
const image = (digit: string): Hex => `0x${digit.repeat(64)}`;

test.each([
  ['more than is read at once', 2_500, Number.POSITIVE_INFINITY],
  ['a node that answers so many at most', 700, 500],
])('a block full of registrations hides no other event: %s', async (_, registrations, maxLogs) => {
  node.maxLogs = maxLogs;
  const { follower, store, close } = followerLab({ urls: [node.url] });
  await follower.pass();
  chain.mine({ image: image('1'), registrations });
  // Near the head, and when it has become old.
  await follower.pass();
  chain.mine({ image: image('2'), registrations });
  for (let n = 0; n < 100; n += 1) chain.mine();
  await follower.pass();
  chain.mine({ image: image('3') });
  await follower.pass();
  expect([...follower.model.kms.images.keys()]).toEqual(chain.images);
  const rules = told(store).map((text) => text.split(':')[0]);
  expect(rules.sort()).toEqual([
    ...['events-left-out', 'events-left-out'],
    ...['measurement-registered', 'measurement-registered', 'measurement-registered'],
  ]);
  // The count of the contract is trusted again from there on.
  chain.mine({ image: image('4') });
  node.mood = 'no-logs';
  await expect(follower.pass()).rejects.toMatchObject({ code: 'events-missing' });
  close();
});

test('an app that is registered again and again is kept and told once', async () => {
  const { follower, store, close } = followerLab({ urls: [node.url] });
  await follower.pass();
  for (const digit of ['1', '2', '3']) {
    chain.mine({ image: image(digit), registrations: 200 });
    await follower.pass();
  }
  expect(follower.model.app(APP).registered).toBe(true);
  expect(told(store).filter((text) => text.startsWith('app-registered'))).toHaveLength(1);
  const kept = store.entries.filter((entry) => entry.type === 'event' && entry.event.address === KMS);
  // Two of each image.
  expect(kept).toHaveLength(1 + 3 * 2);
  close();
});

/** Room for about fifteen registrations. */
const SHARE = 16_384;
const RULE = 'strangers-left-out';

test('registrations without end fill no journal, also over a restart, and hide nothing', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'watch-flood-'));
  const identity = { kms: KMS, fromBlock: 0 };
  const listed = { [KMS]: 'kms', [numberedApp(150)]: 'app' } as const;
  const open = async () => {
    const store = await StateStore.open(folder, identity);
    return followerLab({ urls: [node.url], store, listed, strangersBytes: SHARE });
  };
  let lab = await open();
  try {
    await lab.follower.pass();
    for (let n = 0; n < 8; n += 1) {
      chain.mine({ apps: { first: 1 + n * 50, count: 50 } }, { image: image(String(n)) });
      await lab.follower.pass();
      if (n % 3 !== 0) continue;
      lab.close();
      lab = await open();
    }
    const { follower, store } = lab;
    expect([...follower.model.kms.images.keys()]).toEqual(chain.images);
    expect(told(store).filter((text) => text.startsWith(RULE))).toHaveLength(1);
    const registered = [...follower.model.apps].filter(([, app]) => app.registered);
    expect(registered.length).toBeLessThan(30);
    // That of the operator is followed whatever else there is.
    expect(follower.model.app(numberedApp(150)).registered).toBe(true);
    const kept = follower.model.events.length;
    expect(kept + store.state.counts['left-out']!).toBe(8 * (50 * 2 + 2));
    // What is not a stranger's comes on top: the images, and one app of the operator's.
    expect(statSync(join(folder, 'journal.jsonl')).size).toBeLessThan(SHARE + 20 * 1_000);
    // A flood does not hide an event that endpoints leave out.
    node.hides = image('9');
    chain.mine({ apps: { first: 1_000, count: 50 } }, { image: image('9') });
    await expect(follower.pass()).rejects.toMatchObject({ code: 'events-missing' });
    node.hides = undefined;
    await follower.pass();
    expect(follower.model.kms.images.has(image('9'))).toBe(true);
  } finally {
    lab.close();
    rmSync(folder, { recursive: true, force: true });
  }
});

test('when the history holds more registrations than are kept, the rest of it is known', async () => {
  for (let n = 0; n < 10; n += 1)
    chain.mine({ apps: { first: 1 + n * 50, count: 50 } }, { image: image(String(n)) });
  for (let n = 0; n < 100; n += 1) chain.mine();
  const { follower, store, close } = followerLab({ urls: [node.url], range: 7, strangersBytes: SHARE });
  await follower.pass();
  expect([...follower.model.kms.images.keys()]).toEqual(chain.images);
  expect(told(store).map((text) => text.split(':')[0])).toEqual([RULE]);
  chain.mine({ image: image('a') });
  node.hides = image('a');
  await expect(follower.pass()).rejects.toMatchObject({ code: 'events-missing' });
  close();
});

type Move =
  | { readonly do: 'mine'; readonly blocks: number; readonly apps: number; readonly isOurs: boolean }
  | { readonly do: 'fork'; readonly depth: number; readonly back: number }
  | { readonly do: 'miss' }
  | { readonly do: 'restart' }
  | { readonly do: 'pass' };
const move: fc.Arbitrary<Move> = fc.oneof(
  fc.record({
    do: fc.constant('mine' as const),
    blocks: fc.integer({ min: 1, max: 4 }),
    apps: fc.integer({ min: 0, max: 12 }),
    isOurs: fc.boolean(),
  }),
  fc.record({
    do: fc.constant('fork' as const),
    depth: fc.integer({ min: 1, max: 8 }),
    back: fc.integer({ min: 0, max: 8 }),
  }),
  fc.constantFrom<Move>({ do: 'miss' }, { do: 'restart' }, { do: 'pass' }, { do: 'pass' }),
);

test('reorganisations of a flood: what is left out is counted once, so no event is missing and none can be', async () => {
  let count = 0;
  const next = (): number => (count += 1);
  const newImage = (): Hex => `0x${next().toString(16).padStart(64, '0')}`;
  await fc.assert(
    fc.asyncProperty(fc.array(move, { minLength: 6, maxLength: 24 }), async (moves) => {
      chain = new FakeChain(20);
      node.chain = chain;
      const open = (store?: StateStore) =>
        followerLab({ urls: [node.url], strangersBytes: 4_096, ...(store && { store }) });
      let lab = open();
      /** Something of ours happens, and the endpoint keeps it to itself. */
      const miss = async (): Promise<void> => {
        node.hides = newImage();
        chain.mine({ apps: { first: next() * 1_000, count: 3 } }, { image: node.hides });
        await expect(lab.follower.pass()).rejects.toMatchObject({ code: 'events-missing' });
        node.hides = undefined;
      };
      await lab.follower.pass();
      for (const one of moves) {
        if (one.do === 'pass') await lab.follower.pass();
        else if (one.do === 'miss') await miss();
        else if (one.do === 'restart') {
          lab.close();
          lab = open(lab.store);
        } else if (one.do === 'mine') {
          for (let n = 0; n < one.blocks; n += 1) {
            const flood: FakeTransaction = { apps: { first: next() * 1_000, count: one.apps } };
            chain.mine(flood, ...(one.isOurs ? [{ image: newImage() }] : []));
          }
        } else {
          const depth = Math.min(one.depth, chain.blocks.length - 20);
          if (depth < 1) continue;
          const gone = chain.fork(depth);
          chain.mine(...gone.slice(0, one.back));
          for (let n = 0; n < depth; n += 1) chain.mine();
        }
      }
      await lab.follower.pass();
      expect([...lab.follower.model.kms.images.keys()]).toEqual(chain.images);
      await miss();
      await lab.follower.pass();
      expect([...lab.follower.model.kms.images.keys()]).toEqual(chain.images);
      lab.close();
    }),
    { numRuns: 25 },
  );
}, 120_000);

test.each(['kms', 'app', 'timelock', 'safe'] as const)(
  'what governs a contract of kind %s is matched',
  (kind) => {
    const [events, changes] = governedTopics(kind);
    expect(events?.[0]?.length).toBeGreaterThan(3);
    expect(changes === undefined).toBe(kind === 'timelock' || kind === 'safe');
  },
);
