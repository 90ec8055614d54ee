import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import type { ChainSnapshot } from './read-snapshot.ts';
import { SnapshotSource, type SnapshotSourceOptions } from './snapshot-source.ts';

const snapshotOf = (number: number): ChainSnapshot => {
  const block = {
    number: BigInt(number),
    hash: `0x${number}`,
    timestamp: number,
    parentHash: `0x${number - 1}`,
    stateRoot: '0x',
  };
  return { chainId: 1, head: block, finalized: block, endpoints: [] };
};

/** Views 1, 2, 3 … each delivered when the test says so. */
function controlled(): { read: () => Promise<ChainSnapshot>; deliver(): void; started(): number } {
  let started = 0;
  const waiting: (() => void)[] = [];
  return {
    read: () => {
      started += 1;
      const number = started;
      return new Promise((resolve) => waiting.push(() => resolve(snapshotOf(number))));
    },
    deliver: () => waiting.shift()?.(),
    started: () => started,
  };
}

test('a fresh snapshot never comes from a reading that began before', async () => {
  const { read, deliver, started } = controlled();
  const snapshots = new SnapshotSource(read, { reuseMs: 0 });
  const first = snapshots.fresh();
  const second = snapshots.fresh();
  const third = snapshots.fresh();
  deliver();
  expect((await first).head.number).toBe(1n);
  await Promise.resolve();
  expect(started()).toBe(2);
  deliver();
  expect([(await second).head.number, (await third).head.number]).toEqual([2n, 2n]);
});

test('a failed reading fails those who waited for it and nobody else', async () => {
  let calls = 0;
  const snapshots = new SnapshotSource(
    async () => {
      calls += 1;
      if (calls === 1) throw new Error('down');
      return snapshotOf(calls);
    },
    { reuseMs: 0 },
  );
  const [first, second] = await Promise.allSettled([snapshots.fresh(), snapshots.fresh()]);
  expect(first.status).toBe('rejected');
  expect(second).toMatchObject({ status: 'fulfilled', value: { head: { number: 2n } } });
});

test('without reuse every request reads', async () => {
  let calls = 0;
  const snapshots = new SnapshotSource(async () => snapshotOf(++calls), { reuseMs: 0 });
  expect(await snapshots.current()).toMatchObject({ reused: false });
  expect(await snapshots.current()).toMatchObject({ reused: false });
  expect(snapshots.recent()).toBeUndefined();
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

  type Clocked = { snapshots: SnapshotSource; reading: { takesMs: number; fails: boolean; count: number } };
  function clocked(options: SnapshotSourceOptions): Clocked {
    const reading = { takesMs: 20, fails: false, count: 0 };
    const snapshots = new SnapshotSource(
      async () => {
        reading.count += 1;
        const number = reading.count;
        await new Promise((resolve) => setTimeout(resolve, reading.takesMs));
        if (reading.fails) throw new Error('down');
        return snapshotOf(number);
      },
      { clock: () => Date.now(), ...options },
    );
    return { snapshots, reading };
  }
  const pass = async (ms: number): Promise<void> => void (await vi.advanceTimersByTimeAsync(ms));
  const first = async ({ snapshots }: Clocked): Promise<void> => {
    const snapshot = snapshots.current();
    await pass(10_000);
    await snapshot;
  };

  test.each([1, 20, 80, 200, 400])(
    'requests wait for nothing while others come, and see no old snapshot, with readings of %i ms',
    async (takesMs) => {
      const source = clocked({ reuseMs: 1_000 });
      source.reading.takesMs = takesMs;
      const snapshots: (bigint | undefined)[] = [];
      void source.snapshots.current();
      await pass(takesMs);
      for (let ms = 0; ms < 5_000; ms += 7) {
        snapshots.push(source.snapshots.recent()?.head.number);
        await pass(7);
      }
      expect(snapshots).not.toContain(undefined);
      // Never an older one after a newer one, and new ones all the time.
      expect(snapshots).toEqual([...snapshots].sort((a, b) => Number(a! - b!)));
      expect(new Set(snapshots).size).toBeGreaterThan(5_000 / 1_000);
      source.snapshots.close();
    },
  );

  test('a snapshot never serves longer than it may, counted from when its reading began', async () => {
    const source = clocked({ reuseMs: 1_000 });
    source.reading.takesMs = 600;
    void source.snapshots.current();
    await pass(599);
    // The next reading begins at once.
    source.reading.takesMs = 60_000;
    await pass(400);
    expect(source.snapshots.recent()).toBeDefined();
    await pass(1);
    expect(source.snapshots.recent()).toBeUndefined();
    source.snapshots.close();
  });

  test.each([
    [5, 125],
    [100, 150],
    [300, 100],
    [400, 1],
  ])('after a reading of %i ms the next one begins in %i ms', async (takesMs, pauseMs) => {
    const source = clocked({ reuseMs: 1_000 });
    source.reading.takesMs = takesMs;
    void source.snapshots.current();
    await pass(takesMs + pauseMs - 1);
    expect(source.reading.count).toBe(1);
    await pass(1);
    expect(source.reading.count).toBe(2);
    source.snapshots.close();
  });

  test('nothing is read when nobody asked for a while, nor after the end', async () => {
    const source = clocked({ reuseMs: 1_000 });
    await first(source);
    const { count } = source.reading;
    expect(count).toBeGreaterThan(10);
    await pass(60_000);
    expect(source.reading.count).toBe(count);
    expect(source.snapshots.recent()).toBeUndefined();
    await pass(1_000);
    expect(source.reading.count).toBeGreaterThan(count);
    source.snapshots.close();
    await pass(100);
    const ended = source.reading.count;
    await pass(60_000);
    expect(source.reading.count).toBe(ended);
    expect(vi.getTimerCount()).toBe(0);
  });

  test('who only looks now and then starts nothing', async () => {
    const source = clocked({ reuseMs: 1_000 });
    const snapshot = source.snapshots.current(false);
    await pass(20);
    expect((await snapshot).reused).toBe(false);
    expect((await source.snapshots.current(false)).reused).toBe(true);
    await pass(60_000);
    expect(source.reading.count).toBe(1);
  });

  test('readings that fail are tried again, and no old snapshot hides it', async () => {
    const source = clocked({ reuseMs: 1_000 });
    void source.snapshots.current();
    await pass(20);
    source.reading.fails = true;
    await pass(1_100);
    expect(source.snapshots.recent()).toBeUndefined();
    source.reading.fails = false;
    await pass(1_000);
    expect(source.snapshots.recent()).toBeDefined();
    source.snapshots.close();
  });

  test('one reading that hung does not change the rhythm', async () => {
    const source = clocked({ reuseMs: 1_000 });
    source.reading.takesMs = 2;
    void source.snapshots.current();
    await pass(1_000);
    source.reading.takesMs = 250;
    const hung = source.snapshots.fresh();
    await pass(252);
    await hung;
    const { count } = source.reading;
    await pass(125);
    expect(source.reading.count).toBe(count + 1);
    source.snapshots.close();
  });

  describe('and preparation', () => {
    /** Each snapshot is prepared for so long. */
    function prepared(ms: number): Clocked & { ready: Set<bigint> } {
      const ready = new Set<bigint>();
      const prepare = async ({ head }: ChainSnapshot): Promise<void> => {
        await new Promise((resolve) => setTimeout(resolve, ms));
        ready.add(head.number);
      };
      return { ...clocked({ reuseMs: 1_000, prepare }), ready };
    }

    test('requests see the snapshot before until the next one is ready', async () => {
      const source = prepared(300);
      void source.snapshots.current();
      await pass(321);
      const unready: (bigint | undefined)[] = [];
      for (let ms = 0; ms < 5_000; ms += 7) {
        const number = source.snapshots.recent()?.head.number;
        if (number === undefined || !source.ready.has(number)) unready.push(number);
        await pass(7);
      }
      expect(unready).toEqual([]);
      source.snapshots.close();
    });

    test('but no longer than it may serve', async () => {
      const source = prepared(60_000);
      void source.snapshots.current();
      await pass(20);
      let last = 0n;
      const began: number[] = [];
      for (let ms = 20; ms < 5_000; ms += 7) {
        const number = source.snapshots.recent()?.head.number;
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
      source.snapshots.close();
    });

    test('a caller waiting for a fresh snapshot does not wait for its preparation, and may publish it to all', async () => {
      const source = prepared(10_000);
      void source.snapshots.current();
      await pass(20);
      const fresh = source.snapshots.fresh();
      await pass(20);
      const snapshot = await fresh;
      source.snapshots.show(snapshot);
      expect(source.snapshots.recent()).toBe(snapshot);
      source.snapshots.close();
    });
  });
});
