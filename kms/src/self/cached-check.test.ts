import { expect, test } from 'vitest';
import { cachedCheck } from './cached-check.ts';

test('a result holds for its time, good or bad, and one check runs at a time', async () => {
  let time = 0;
  let runs = 0;
  let failure: Error | undefined;
  const check = cachedCheck(
    async () => {
      runs++;
      await Promise.resolve();
      if (failure !== undefined) throw failure;
    },
    { goodMs: 60, badMs: 5 },
    () => time,
  );
  await Promise.all([check(), check(), check()]);
  expect(runs).toBe(1);
  failure = new Error('down');
  time = 59;
  await check();
  expect(runs).toBe(1);
  time = 60;
  await expect(Promise.all([check(), check()])).rejects.toThrow('down');
  expect(runs).toBe(2);
  failure = undefined;
  time = 64;
  await expect(check()).rejects.toThrow('down');
  expect(runs).toBe(2);
  time = 65;
  await check();
  expect(runs).toBe(3);
});
