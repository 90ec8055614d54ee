import { describe, expect, test } from 'vitest';
import {
  BoundedMap,
  cachedPromise,
  errorChain,
  InFlight,
  LruCache,
  sharedFor,
  withTimeout,
} from './index.ts';

/** A promise that the test settles. */
function pending<T>(): { promise: Promise<T>; resolve: (value: T) => void; reject: (error: Error) => void } {
  let settle!: { resolve: (value: T) => void; reject: (error: Error) => void };
  const promise = new Promise<T>((resolve, reject) => {
    settle = { resolve, reject };
  });
  return { promise, ...settle };
}

describe('BoundedMap', () => {
  test('forgets the entry written longest ago, whatever was read since', () => {
    const map = new BoundedMap<string, number>(2).set('a', 1).set('b', 2);
    map.get('a');
    expect([...map.set('c', 3)]).toEqual([
      ['b', 2],
      ['c', 3],
    ]);
  });

  test('an entry that is written again is the newest, and takes no second place', () => {
    const map = new BoundedMap<string, number>(2).set('a', 1).set('b', 2).set('a', 3).set('c', 4);
    expect([...map.keys()]).toEqual(['a', 'c']);
    expect(map.get('a')).toBe(3);
  });
});

test('LruCache forgets the entry used longest ago', () => {
  const cache = new LruCache<string, number>(2).set('a', 1).set('b', 2);
  expect(cache.get('a')).toBe(1);
  expect([...cache.set('c', 3).keys()]).toEqual(['a', 'c']);
  expect(cache.get('b')).toBeUndefined();
});

describe('errorChain', () => {
  test('joins the messages of all causes, outermost first, each once', () => {
    const inner = new Error('connection refused');
    const middle = new Error('no answer: connection refused', { cause: inner });
    expect(errorChain(new Error('boot failed', { cause: middle }))).toBe(
      'boot failed: no answer: connection refused',
    );
    expect(errorChain(new Error('boot failed', { cause: 'disk full' }))).toBe('boot failed: disk full');
  });

  test('ends on a chain that is its own cause, and says something of what is no error', () => {
    const own = new Error('first');
    own.cause = new Error('', { cause: own });
    expect(errorChain(own)).toBe('first');
    expect(errorChain(undefined)).toBe('undefined');
    expect(errorChain('text')).toBe('text');
  });
});

describe('withTimeout', () => {
  test('gives the result, or what the work throws', async () => {
    await expect(withTimeout(Promise.resolve(1), 60_000)).resolves.toBe(1);
    await expect(withTimeout(Promise.reject(new Error('refused')), 60_000)).rejects.toThrow('refused');
  });

  test('rejects with the given error when the time is up; a later failure goes unnoticed', async () => {
    const { promise, reject } = pending<number>();
    await expect(withTimeout(promise, 5, () => new RangeError('late'))).rejects.toThrow(RangeError);
    reject(new Error('too late to tell'));
    await expect(withTimeout(new Promise(() => undefined), 5)).rejects.toThrow('no answer within 5 ms');
  });
});

describe('InFlight', () => {
  test('callers of one key share one run; a new one begins when it has ended, also by a failure', async () => {
    const flights = new InFlight<string, number>();
    const { promise, reject } = pending<number>();
    let runs = 0;
    const work = () => {
      runs += 1;
      return promise;
    };
    const all = [flights.run('a', work), flights.run('a', work)];
    expect([runs, flights.size, flights.get('a') === all[0]]).toEqual([1, 1, true]);
    reject(new Error('refused'));
    for (const one of all) await expect(one).rejects.toThrow('refused');
    expect(flights.size).toBe(0);
    await expect(flights.run('a', async () => 2)).resolves.toBe(2);
  });
});

describe('cachedPromise', () => {
  test('keeps a success, and forgets a failure', async () => {
    const cache = new Map<string, Promise<number>>();
    await expect(cachedPromise(cache, 'a', () => Promise.reject(new Error('refused')))).rejects.toThrow();
    expect(cache.size).toBe(0);
    await cachedPromise(cache, 'a', async () => 1);
    await expect(cachedPromise(cache, 'a', async () => 2)).resolves.toBe(1);
  });

  test('a failure does not remove what has been put in its place', async () => {
    const cache = new Map<string, Promise<number>>();
    const { promise, reject } = pending<number>();
    const first = cachedPromise(cache, 'a', () => promise);
    cache.set('a', Promise.resolve(2));
    reject(new Error('refused'));
    await expect(first).rejects.toThrow();
    await expect(cache.get('a')).resolves.toBe(2);
  });
});

test('sharedFor shares a result for its time, and a failure only with those who wait', async () => {
  let asked = 0;
  const ask = sharedFor(60_000, async () => {
    asked += 1;
    if (asked === 1) throw new Error('refused');
    return asked;
  });
  const failed = await Promise.allSettled([ask(), ask()]);
  expect(failed.map(({ status }) => status)).toEqual(['rejected', 'rejected']);
  expect([await ask(), await ask(), asked]).toEqual([2, 2, 2]);
});
