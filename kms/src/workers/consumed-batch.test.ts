import { expect, test } from 'vitest';
import type { Consumed } from '../limits/rate-limits.ts';
import { consumedBatch } from './consumed-batch.ts';

test('one turn tells one sum for each name, and nothing of what was given back', async () => {
  const told: Consumed[][] = [];
  const take = consumedBatch((taken) => told.push(taken));
  take('open', 'a', 1);
  take('open', 'a', 1);
  take('workload', 'a', 1);
  take('shown', 'b', 1);
  take('shown', 'b', -1);
  await new Promise(setImmediate);
  take('open', 'c', 1);
  await new Promise(setImmediate);
  take('shown', 'd', 1);
  take('shown', 'd', -1);
  await new Promise(setImmediate);
  expect(told).toEqual([
    [
      ['open', 'a', 2],
      ['workload', 'a', 1],
    ],
    [['open', 'c', 1]],
  ]);
});
