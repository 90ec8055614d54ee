import { expect, test } from 'vitest';
import { ConnectionQueue } from './connection-queue.ts';

function drain(queue: ConnectionQueue<string>): string[] {
  const order: string[] = [];
  for (let item = queue.shift(); item !== undefined; item = queue.shift()) order.push(item);
  return order;
}

test('networks come in turn, each with its oldest', () => {
  const queue = new ConnectionQueue<string>({ max: 10, maxPerNetwork: 10 });
  for (const item of ['a1', 'a2', 'a3', 'b1', 'a4', 'c1', 'b2'])
    expect(queue.push(item[0]!, item)).toBeUndefined();
  expect(drain(queue)).toEqual(['a1', 'b1', 'c1', 'a2', 'b2', 'a3', 'a4']);
  expect(queue.push('a', 'a5')).toBeUndefined();
  expect(drain(queue)).toEqual(['a5']);
});

test('one network has its share at most', () => {
  const queue = new ConnectionQueue<string>({ max: 10, maxPerNetwork: 2 });
  expect(['a1', 'a2', 'a3'].map((item) => queue.push('a', item))).toEqual([
    undefined,
    undefined,
    { item: 'a3', why: 'share' },
  ]);
  expect(queue.push('b', 'b1')).toBeUndefined();
  expect(drain(queue)).toEqual(['a1', 'b1', 'a2']);
});

test('where there is no room, the network that has most gives up its latest, or nobody does', () => {
  const queue = new ConnectionQueue<string>({ max: 3, maxPerNetwork: 3 });
  for (const item of ['a1', 'a2', 'a3']) queue.push('a', item);
  expect(queue.push('b', 'b1')).toEqual({ item: 'a3', why: 'full' });
  expect(queue.push('b', 'b2')).toEqual({ item: 'b2', why: 'full' });
  expect(queue.push('a', 'a4')).toEqual({ item: 'a4', why: 'full' });
  expect(queue.push('c', 'c1')).toEqual({ item: 'a2', why: 'full' });
  expect(queue.push('d', 'd1')).toEqual({ item: 'd1', why: 'full' });
  expect(drain(queue)).toEqual(['a1', 'b1', 'c1']);
});
