import { expect, test } from 'vitest';
import { Arrivals } from './arrivals.ts';

test('nothing waits when nobody comes', () => {
  const arrivals = new Arrivals();
  expect(arrivals.goFirst()).toBe(false);
});

test('a turn that took a connection lets the next one look whether there are more', () => {
  const arrivals = new Arrivals();
  arrivals.note();
  expect([arrivals.goFirst(), arrivals.goFirst()]).toEqual([true, false]);
});

test('a crowd that does not end lets what waits have a turn now and then', () => {
  let now = 0;
  const arrivals = new Arrivals(() => now);
  const turns: number[] = [];
  for (; now < 100; now += 1) {
    arrivals.note();
    if (!arrivals.goFirst()) turns.push(now);
  }
  expect(turns).toEqual([12, 24, 36, 48, 60, 72, 84, 96]);
});
