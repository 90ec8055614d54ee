import { expect, it } from 'vitest';
import { RestartPolicy } from './restart-policy.ts';

it('waits longer each time, and gives up', () => {
  const policy = new RestartPolicy(() => 0);
  expect([1, 2, 3, 4, 5, 6].map(() => policy.next())).toEqual([
    5000,
    10_000,
    20_000,
    40_000,
    80_000,
    undefined,
  ]);
});

it('counts again once the machine ran for a while', () => {
  let now = 0;
  const policy = new RestartPolicy(() => now);
  policy.next();
  policy.isUp();
  now += 299_999;
  expect(policy.next()).toBe(10_000);
  policy.isUp();
  now += 300_000;
  expect(policy.next()).toBe(5000);
});
