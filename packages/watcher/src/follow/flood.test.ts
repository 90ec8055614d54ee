/** Strangers who fill blocks with events of our contracts: nobody is blinded, and no disk is filled. */
import type { Hex } from 'viem';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { APP, FakeChain, type FakeNode, KMS, startFakeNode } from '../test/fake-node.ts';
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

test.each(['kms', 'app', 'timelock', 'safe'] as const)(
  'what governs a contract of kind %s is matched',
  (kind) => {
    const [events, changes] = governedTopics(kind);
    expect(events?.[0]?.length).toBeGreaterThan(3);
    expect(changes === undefined).toBe(kind === 'timelock' || kind === 'safe');
  },
);
