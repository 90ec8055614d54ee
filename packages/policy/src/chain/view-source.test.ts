import { expect, test } from 'vitest';
import type { ChainView } from './read-view.ts';
import { ViewSource } from './view-source.ts';

const viewOf = (number: number): ChainView => {
  const block = {
    number: BigInt(number),
    hash: `0x${number}`,
    timestamp: number,
    parentHash: `0x${number - 1}`,
    stateRoot: '0x',
  };
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

/** Readings that take as long as the test says, on a clock that it moves. */
function clocked(reuseMs: number): { views: ViewSource; at(ms: number): void; takes(ms: number): void } {
  let [now, duration, calls] = [0, 0, 0];
  const read = async (): Promise<ChainView> => {
    now += duration;
    return viewOf(++calls);
  };
  return {
    views: new ViewSource(read, reuseMs, () => now),
    at: (ms) => {
      now = ms;
    },
    takes: (ms) => {
      duration = ms;
    },
  };
}

test('with reuse the view is renewed in the background before it expires', async () => {
  const { views, at, takes } = clocked(1_000);
  takes(20);
  await views.current();
  takes(0);
  at(20 + 19);
  expect(await views.current()).toMatchObject({ reused: true, view: { head: { number: 1n } } });
  await Promise.resolve();
  expect(views.latest?.head.number).toBe(1n);
  at(20 + 21);
  expect(await views.current()).toMatchObject({ reused: true, view: { head: { number: 1n } } });
  await expect.poll(() => views.latest?.head.number).toBe(2n);
});

test('a view serves for three readings, for 15 ms at least, and never longer than it may', async () => {
  const lives = async (reuseMs: number, takesMs: number, at: number): Promise<boolean> => {
    const source = clocked(reuseMs);
    source.takes(takesMs);
    await source.views.current();
    source.at(at);
    return source.views.recent() !== undefined;
  };
  expect(await lives(1_000, 20, 20 + 59)).toBe(true);
  expect(await lives(1_000, 20, 20 + 60)).toBe(false);
  expect(await lives(1_000, 1, 1 + 14)).toBe(true);
  expect(await lives(1_000, 1, 1 + 15)).toBe(false);
  expect(await lives(1_000, 400, 999)).toBe(true);
  expect(await lives(1_000, 400, 1_000)).toBe(false);
  expect(await lives(1_000, 5_000, 5_000)).toBe(false);
  expect(await lives(10, 1, 10)).toBe(false);
});

test('one reading that hung does not make views serve longer', async () => {
  const { views, at, takes } = clocked(1_000);
  for (const start of [0, 100, 200]) {
    at(start);
    takes(2);
    await views.fresh();
  }
  at(300);
  takes(150);
  await views.fresh();
  at(450 + 15);
  expect(views.recent()).toBeUndefined();
});
