import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import type { ChainView } from './read-view.ts';
import { ViewSource, type ViewSourceOptions } from './view-source.ts';

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
  const views = new ViewSource(read, { reuseMs: 0 });
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
  const views = new ViewSource(
    async () => {
      calls += 1;
      if (calls === 1) throw new Error('down');
      return viewOf(calls);
    },
    { reuseMs: 0 },
  );
  const [first, second] = await Promise.allSettled([views.fresh(), views.fresh()]);
  expect(first.status).toBe('rejected');
  expect(second).toMatchObject({ status: 'fulfilled', value: { head: { number: 2n } } });
});

test('without reuse every request reads', async () => {
  let calls = 0;
  const views = new ViewSource(async () => viewOf(++calls), { reuseMs: 0 });
  expect(await views.current()).toMatchObject({ reused: false });
  expect(await views.current()).toMatchObject({ reused: false });
  expect(views.recent()).toBeUndefined();
  expect(calls).toBe(2);
});

/** Each reading takes `takesMs` of a time that the test moves on. */
describe('with reuse', () => {
  beforeEach(() => {
    vi.useFakeTimers();
  });
  afterEach(() => {
    vi.useRealTimers();
  });

  type Clocked = { views: ViewSource; reading: { takesMs: number; fails: boolean; count: number } };
  function clocked(options: ViewSourceOptions): Clocked {
    const reading = { takesMs: 20, fails: false, count: 0 };
    const views = new ViewSource(
      async () => {
        reading.count += 1;
        const number = reading.count;
        await new Promise((resolve) => setTimeout(resolve, reading.takesMs));
        if (reading.fails) throw new Error('down');
        return viewOf(number);
      },
      { clock: () => Date.now(), ...options },
    );
    return { views, reading };
  }
  const pass = async (ms: number): Promise<void> => void (await vi.advanceTimersByTimeAsync(ms));
  const first = async ({ views }: Clocked): Promise<void> => {
    const view = views.current();
    await pass(10_000);
    await view;
  };

  test.each([1, 20, 80, 200, 400])(
    'requests wait for nothing while others come, and see no old view, with readings of %i ms',
    async (takesMs) => {
      const source = clocked({ reuseMs: 1_000 });
      source.reading.takesMs = takesMs;
      const views: (bigint | undefined)[] = [];
      void source.views.current();
      await pass(takesMs);
      for (let ms = 0; ms < 5_000; ms += 7) {
        views.push(source.views.recent()?.head.number);
        await pass(7);
      }
      expect(views).not.toContain(undefined);
      // Never an older one after a newer one, and new ones all the time.
      expect(views).toEqual([...views].sort((a, b) => Number(a! - b!)));
      expect(new Set(views).size).toBeGreaterThan(5_000 / 1_000);
      source.views.close();
    },
  );

  test('a view never serves longer than it may, counted from the begin of its reading', async () => {
    const source = clocked({ reuseMs: 1_000 });
    source.reading.takesMs = 600;
    void source.views.current();
    await pass(599);
    // The next reading begins at once.
    source.reading.takesMs = 60_000;
    await pass(400);
    expect(source.views.recent()).toBeDefined();
    await pass(1);
    expect(source.views.recent()).toBeUndefined();
    source.views.close();
  });

  test.each([
    [5, 125],
    [100, 150],
    [300, 100],
    [400, 1],
  ])('after a reading of %i ms the next one begins in %i ms', async (takesMs, pauseMs) => {
    const source = clocked({ reuseMs: 1_000 });
    source.reading.takesMs = takesMs;
    void source.views.current();
    await pass(takesMs + pauseMs - 1);
    expect(source.reading.count).toBe(1);
    await pass(1);
    expect(source.reading.count).toBe(2);
    source.views.close();
  });

  test('nothing is read when nobody asked for a while, nor after the end', async () => {
    const source = clocked({ reuseMs: 1_000 });
    await first(source);
    const { count } = source.reading;
    expect(count).toBeGreaterThan(10);
    await pass(60_000);
    expect(source.reading.count).toBe(count);
    expect(source.views.recent()).toBeUndefined();
    await pass(1_000);
    expect(source.reading.count).toBeGreaterThan(count);
    source.views.close();
    await pass(100);
    const ended = source.reading.count;
    await pass(60_000);
    expect(source.reading.count).toBe(ended);
    expect(vi.getTimerCount()).toBe(0);
  });

  test('who only looks now and then starts nothing', async () => {
    const source = clocked({ reuseMs: 1_000 });
    const view = source.views.current(false);
    await pass(20);
    expect((await view).reused).toBe(false);
    expect((await source.views.current(false)).reused).toBe(true);
    await pass(60_000);
    expect(source.reading.count).toBe(1);
  });

  test('readings that fail are tried again, and no old view hides it', async () => {
    const source = clocked({ reuseMs: 1_000 });
    void source.views.current();
    await pass(20);
    source.reading.fails = true;
    await pass(1_100);
    expect(source.views.recent()).toBeUndefined();
    source.reading.fails = false;
    await pass(1_000);
    expect(source.views.recent()).toBeDefined();
    source.views.close();
  });

  test('one reading that hung does not change the rhythm', async () => {
    const source = clocked({ reuseMs: 1_000 });
    source.reading.takesMs = 2;
    void source.views.current();
    await pass(1_000);
    source.reading.takesMs = 250;
    const hung = source.views.fresh();
    await pass(252);
    await hung;
    const { count } = source.reading;
    await pass(125);
    expect(source.reading.count).toBe(count + 1);
    source.views.close();
  });

  describe('and preparation', () => {
    /** Each view is prepared for so long. */
    function prepared(ms: number): Clocked & { ready: Set<bigint> } {
      const ready = new Set<bigint>();
      const prepare = async ({ head }: ChainView): Promise<void> => {
        await new Promise((resolve) => setTimeout(resolve, ms));
        ready.add(head.number);
      };
      return { ...clocked({ reuseMs: 1_000, prepare }), ready };
    }

    test('requests see the view before until the next one is ready', async () => {
      const source = prepared(300);
      void source.views.current();
      await pass(321);
      const unready: (bigint | undefined)[] = [];
      for (let ms = 0; ms < 5_000; ms += 7) {
        const number = source.views.recent()?.head.number;
        if (number === undefined || !source.ready.has(number)) unready.push(number);
        await pass(7);
      }
      expect(unready).toEqual([]);
      source.views.close();
    });

    test('but no longer than it may serve', async () => {
      const source = prepared(60_000);
      void source.views.current();
      await pass(20);
      let last = 0n;
      const began: number[] = [];
      for (let ms = 20; ms < 5_000; ms += 7) {
        const number = source.views.recent()?.head.number;
        if (number !== undefined && number !== last) {
          last = number;
          began.push(ms);
        }
        await pass(7);
      }
      for (const [index, at] of began.entries()) {
        if (index > 0) expect(at - began[index - 1]!).toBeLessThanOrEqual(1_020);
      }
      expect(began.length).toBeGreaterThan(4);
      source.views.close();
    });

    test('who waited for a fresh view does not wait for its preparation, and may show it to all', async () => {
      const source = prepared(10_000);
      void source.views.current();
      await pass(20);
      const fresh = source.views.fresh();
      await pass(20);
      const view = await fresh;
      source.views.show(view);
      expect(source.views.recent()).toBe(view);
      source.views.close();
    });
  });
});
