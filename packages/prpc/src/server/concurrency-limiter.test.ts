import { describe, expect, test } from 'vitest';
import { ConcurrencyLimiter } from './concurrency-limiter.ts';

describe('ConcurrencyLimiter', () => {
  test('runs so many at once, lets some wait, turns the rest away', async () => {
    const limiter = new ConcurrencyLimiter(2);
    let running = 0;
    let most = 0;
    const release: (() => void)[] = [];
    const task = async (): Promise<void> => {
      running += 1;
      most = Math.max(most, running);
      await new Promise<void>((resolve) => release.push(resolve));
      running -= 1;
    };
    const started = Array.from({ length: 10 }, (_, at) => limiter.run(`source ${at % 2}`, task));
    await expect(limiter.run('another', task)).rejects.toMatchObject({ code: 'UNAVAILABLE', status: 503 });
    let done = 0;
    const all = Promise.all(started.map((promise) => promise.then(() => (done += 1))));
    while (done < 10) {
      release.shift()?.();
      await new Promise((resolve) => setImmediate(resolve));
    }
    await all;
    expect(most).toBe(2);
    await expect(limiter.run('any', async () => 'free again')).resolves.toBe('free again');
  });

  test('a task that fails gives its place back', async () => {
    const limiter = new ConcurrencyLimiter(1);
    await expect(limiter.run('any', () => Promise.reject(new Error('x')))).rejects.toThrow('x');
    await expect(limiter.run('any', async () => 1)).resolves.toBe(1);
  });

  test('a source has half of the places, and the next one goes to who has fewest', async () => {
    const limiter = new ConcurrencyLimiter(4);
    const order: string[] = [];
    const release = new Map<string, () => void>();
    const enter = (source: string, name: string) =>
      limiter.run(source, async () => {
        order.push(name);
        await new Promise<void>((resolve) => release.set(name, resolve));
      });
    const all = [1, 2, 3, 4, 5].map((n) => enter('greedy', `greedy ${n}`));
    all.push(enter('modest', 'modest 1'), enter('another', 'another 1'), enter('modest', 'modest 2'));
    const settled = () => new Promise((resolve) => setImmediate(resolve));
    await settled();
    // Two places are there for others, however much one source asks for.
    expect(order).toEqual(['greedy 1', 'greedy 2', 'modest 1', 'another 1']);
    release.get('greedy 1')!();
    await settled();
    expect(order.at(-1)).toBe('greedy 3');
    release.get('another 1')!();
    await settled();
    expect(order.at(-1)).toBe('modest 2');
    // Of those that wait, half may be of one source.
    all.push(...Array.from({ length: 6 }, (_, n) => enter('greedy', `late ${n}`)));
    await expect(enter('greedy', 'too late')).rejects.toMatchObject({ status: 503 });
    let done = false;
    const end = Promise.all(all).then(() => {
      done = true;
    });
    while (!done) {
      for (const free of release.values()) free();
      await settled();
    }
    await end;
    expect(order).toHaveLength(14);
  });
});
