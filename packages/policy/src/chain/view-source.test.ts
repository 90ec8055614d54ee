import { expect, test } from 'vitest';
import type { ChainView } from './read-view.ts';
import { ViewSource } from './view-source.ts';

const viewOf = (number: number): ChainView => {
  const block = { number: BigInt(number), hash: `0x${number}`, timestamp: number };
  return { chainId: 1, head: block, settled: block, endpoints: [] };
};

/** Views 1, 2, 3 … each delivered when the test says so. */
function controlled(): { read: () => Promise<ChainView>; deliver(): void; started(): number } {
  let started = 0;
  const waiting: (() => void)[] = [];
  return {
    read: () => {
      started += 1;
      const number = started;
      return new Promise((resolve) => waiting.push(() => resolve(viewOf(number))));
    },
    deliver: () => waiting.shift()?.(),
    started: () => started,
  };
}

test('a fresh view never comes from a reading that began before', async () => {
  const { read, deliver, started } = controlled();
  const views = new ViewSource(read, 0);
  const first = views.fresh();
  const second = views.fresh();
  const third = views.fresh();
  deliver();
  expect((await first).head.number).toBe(1n);
  await Promise.resolve();
  expect(started()).toBe(2);
  deliver();
  expect([(await second).head.number, (await third).head.number]).toEqual([2n, 2n]);
});

test('a failed reading fails those who waited for it and nobody else', async () => {
  let calls = 0;
  const views = new ViewSource(async () => {
    calls += 1;
    if (calls === 1) throw new Error('down');
    return viewOf(calls);
  }, 0);
  const [first, second] = await Promise.allSettled([views.fresh(), views.fresh()]);
  expect(first.status).toBe('rejected');
  expect(second).toMatchObject({ status: 'fulfilled', value: { head: { number: 2n } } });
});

test('without reuse every request reads', async () => {
  let calls = 0;
  const views = new ViewSource(async () => viewOf(++calls), 0);
  expect(await views.current()).toMatchObject({ reused: false });
  expect(await views.current()).toMatchObject({ reused: false });
  expect(calls).toBe(2);
});

test('with reuse the view is renewed in the background before it expires', async () => {
  let calls = 0;
  const views = new ViewSource(async () => viewOf(++calls), 200);
  await views.current();
  expect(await views.current()).toMatchObject({ reused: true, view: { head: { number: 1n } } });
  await new Promise((done) => setTimeout(done, 120));
  expect(await views.current()).toMatchObject({ reused: true, view: { head: { number: 1n } } });
  await expect.poll(() => views.latest?.head.number).toBe(2n);
});
