/** Following a chain through endpoints that fail, lie, stand still or are of another chain. */
import type { Hex } from 'viem';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { FakeChain, type FakeNode, type FakeTransaction, startFakeNode } from '../test/fake-node.ts';
import { followerLab, told } from '../test/follower-lab.ts';

let chain: FakeChain;
let nodes: FakeNode[];
const image = (digit: string): FakeTransaction & { readonly image: Hex } => ({
  image: `0x${digit.repeat(64)}`,
});
const text = (digit: string): string =>
  `measurement-registered: OS image 0x${digit.repeat(64)} is allowed now`;

beforeEach(async () => {
  chain = new FakeChain(20);
  nodes = await Promise.all([1, 2, 3].map(() => startFakeNode(chain)));
});
afterEach(async () => {
  await Promise.all(nodes.map((node) => node.close()));
});
const urls = (count = 3): string[] => nodes.slice(0, count).map(({ url }) => url);
const mine = (count: number): void => {
  for (let n = 0; n < count; n += 1) chain.mine();
};

test('what was there before is known and told to nobody; what comes is told once', async () => {
  chain.mine(image('1'));
  mine(150);
  chain.mine(image('2'));
  const { follower, store, close } = followerLab({ urls: urls(1), range: 30 });
  await follower.pass();
  expect([...follower.model.kms.images.keys()]).toEqual([image('1').image, image('2').image]);
  expect(told(store)).toEqual([]);
  chain.mine(image('3'));
  await follower.pass();
  await follower.pass();
  expect(told(store)).toEqual([text('3')]);
  close();
});

test('an event that a reorganisation moves is told once, and one that it removes is taken back', async () => {
  const { follower, store, close } = followerLab({ urls: urls(1) });
  await follower.pass();
  chain.mine(image('1'));
  chain.mine(image('2'));
  await follower.pass();
  const [, lost] = chain.fork(2);
  mine(3);
  chain.mine(image('1'));
  await follower.pass();
  expect([...follower.model.kms.images.keys()]).toEqual([image('1').image]);
  expect(follower.model.kms.images.get(image('1').image)?.block).toBe(chain.head.number);
  mine(64);
  await follower.pass();
  expect(told(store)).toEqual([
    text('1'),
    text('2'),
    expect.stringMatching(/^chain-reorganised: .* 2 blocks after block 19 are gone, with 2 events/),
    expect.stringMatching(/^event-withdrawn: OsImageHashAdded of block 21 never happened/),
  ]);
  // It comes after all: that is new.
  chain.mine(lost!);
  await follower.pass();
  expect(follower.model.kms.images.has(lost!.image!)).toBe(true);
  close();
});

test('one endpoint of three that leaves events out, lags, answers nonsense or hangs changes nothing', async () => {
  const { follower, store, close } = followerLab({ urls: urls(), timeoutMs: 1_500 });
  await follower.pass();
  const digits = ['1', '2', '3', '4'];
  for (const [index, mood] of (['no-logs', 'garbage', 'hang', 'error'] as const).entries()) {
    for (const node of nodes) node.mood = 'well';
    nodes[index % 3]!.mood = mood;
    chain.mine(image(digits[index]!));
    await expect
      .poll(async () => (await follower.pass().catch(() => ({ block: 0 }))).block, { timeout: 20_000 })
      .toBe(chain.head.number);
  }
  expect(told(store)).toEqual(digits.map(text));
  close();
});

test('without agreement nothing is taken over, and nothing is lost', async () => {
  const { follower, store, close } = followerLab({ urls: urls(), timeoutMs: 1_500 });
  await follower.pass();
  chain.mine(image('1'));
  nodes[0]!.mood = 'no-logs';
  nodes[1]!.mood = 'error';
  await expect(follower.pass()).rejects.toMatchObject({ code: 'chain-no-quorum' });
  expect(told(store)).toEqual([]);
  for (const node of nodes) node.mood = 'well';
  await expect
    .poll(
      () =>
        follower.pass().then(
          () => told(store),
          () => [],
        ),
      { timeout: 20_000 },
    )
    .toEqual([text('1')]);
  close();
});

test('an endpoint that falls behind is no reorganisation, not even after a restart', async () => {
  const first = followerLab({ urls: urls(1) });
  await first.follower.pass();
  mine(3);
  chain.mine(image('1'));
  await first.follower.pass();
  first.close();
  nodes[0]!.behind = 3;
  const { follower, store, close } = followerLab({ urls: urls(1), store: first.store });
  await follower.pass();
  nodes[0]!.behind = 0;
  await follower.pass();
  expect(told(store)).toEqual([text('1')]);
  close();
});

test('another chain with the same number is refused, and what is known stays', async () => {
  chain.mine(image('1'));
  const first = followerLab({ urls: urls(1) });
  await first.follower.pass();
  first.close();
  const other = new FakeChain(40);
  other.fork(39);
  for (let n = 0; n < 60; n += 1) other.mine();
  // Not even the first block is the same.
  other.blocks[0] = { ...other.blocks[0]!, hash: `0x${'f'.repeat(64)}` };
  nodes[0]!.chain = other;
  const { follower, store, close } = followerLab({ urls: urls(1), store: first.store });
  await expect(follower.pass()).rejects.toMatchObject({ code: 'chain-replaced' });
  expect(store.state.checkpoints).toEqual(first.store.state.checkpoints);
  expect(follower.model.kms.images.size).toBe(1);
  close();
});

test('a range with more events than an endpoint answers is read in parts', async () => {
  for (let n = 0; n < 30; n += 1) chain.mine({ image: `0x${(n + 1).toString(16).padStart(64, '0')}` });
  mine(80);
  nodes[0]!.maxLogs = 3;
  const { follower, close } = followerLab({ urls: urls(1), range: 1_000 });
  await follower.pass();
  expect([...follower.model.kms.images.keys()]).toEqual(chain.images);
  close();
});

test('an only endpoint that leaves events out is found out by the count of the contract, and nothing is lost', async () => {
  nodes[0]!.counts = true;
  const { follower, store, close } = followerLab({ urls: urls(1) });
  await follower.pass();
  chain.mine(image('1'));
  mine(100);
  nodes[0]!.mood = 'no-logs';
  await expect(follower.pass()).rejects.toMatchObject({ code: 'events-missing' });
  expect(told(store)).toEqual([]);
  nodes[0]!.mood = 'well';
  await follower.pass();
  expect(told(store)).toEqual([text('1')]);
  close();
});
