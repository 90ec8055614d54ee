import { setImmediate as nextLoop } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { FairTurns } from './fair-turns.ts';

function work(ms: number): void {
  const end = performance.now() + ms;
  while (performance.now() < end);
}

it('goes around the sources, however much one of them asks for', async () => {
  const turns = new FairTurns();
  const order: string[] = [];
  const task = async (source: string): Promise<void> => {
    await turns.next(source);
    order.push(source);
  };
  await Promise.all(['a', 'a', 'a', 'a', 'b', 'c', 'b'].map(task));
  expect(order).toEqual(['a', 'b', 'c', 'a', 'b', 'a', 'a']);
});

it('lets a newcomer in after one long turn, not after all that wait', async () => {
  const turns = new FairTurns();
  const order: string[] = [];
  const task = async (source: string): Promise<void> => {
    await turns.next(source);
    order.push(source);
    work(6);
  };
  const many = Array.from({ length: 10 }, () => task('flood'));
  await nextLoop();
  const one = task('newcomer');
  await Promise.all([...many, one]);
  expect(order.indexOf('newcomer')).toBeLessThanOrEqual(2);
  expect(order).toHaveLength(11);
});

it('takes no more than so many in one turn of the loop', async () => {
  const turns = new FairTurns({ perLoop: 2 });
  let begun = 0;
  for (let index = 0; index < 5; index++) turns.take(`${index}`, () => (begun += 1));
  const seen: number[] = [];
  for (let loop = 0; loop < 4; loop++) {
    await nextLoop();
    seen.push(begun);
  }
  expect(begun).toBe(5);
  expect(Math.max(...seen.map((count, loop) => count - (seen[loop - 1] ?? 0)))).toBeLessThanOrEqual(2);
});

it('begins no turn while something else goes first', async () => {
  let isBusy = true;
  const turns = new FairTurns({ mustWait: () => isBusy });
  const order: string[] = [];
  for (const source of ['a', 'a', 'b']) turns.take(source, () => order.push(source));
  for (let loop = 0; loop < 5; loop++) await nextLoop();
  expect(order).toEqual([]);
  isBusy = false;
  for (let loop = 0; loop < 2; loop++) await nextLoop();
  expect(order).toEqual(['a', 'b', 'a']);
});

it('goes on after it was idle, and after a task that fails', async () => {
  const turns = new FairTurns();
  await turns.next('a');
  await expect(turns.next('a').then(() => Promise.reject(new Error('no')))).rejects.toThrow('no');
  await turns.next('a');
});
