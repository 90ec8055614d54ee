import { expect, test } from 'vitest';
import { RestartPolicy } from './restart-policy.ts';

test('waits longer each time, and gives up at the sixth end in a row', () => {
  let now = 0;
  const policy = new RestartPolicy(() => now);
  const delays = [];
  for (let round = 0; round < 6; round++) {
    policy.started();
    now += 1_000;
    delays.push(policy.ended());
  }
  expect(delays).toEqual([100, 200, 400, 800, 1_600, undefined]);
});

test('a worker that served for a while begins anew', () => {
  let now = 0;
  const policy = new RestartPolicy(() => now);
  for (let round = 0; round < 20; round++) {
    policy.started();
    now += 31_000;
    expect(policy.ended()).toBe(100);
  }
});
