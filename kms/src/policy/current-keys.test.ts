import type { Decision } from '@dstack-cloud/policy';
import { expect, test } from 'vitest';
import { CurrentKeys, type KeyNews } from './current-keys.ts';

const decision = (said: Partial<Decision> = {}): Decision => ({
  allowed: true,
  reason: '',
  gatewayAppId: '',
  ...said,
});
const app = (number: number): Uint8Array => new Uint8Array(Buffer.alloc(20, String(number).padStart(8, '0')));

test('what was said last counts, for each service alone, until it says nothing', () => {
  const [one, other] = [new CurrentKeys(), new CurrentKeys()];
  one.note(app(1), decision({ keyEpoch: 2, minKeyEpoch: 1 }));
  expect(one.of(app(1))).toEqual({ keyEpoch: 2, minKeyEpoch: 1 });
  expect([one.of(app(2)), other.of(app(1))]).toEqual([{}, {}]);
  one.note(app(1), decision());
  expect(one.of(app(1))).toEqual({});
});

test('memory is bounded; who asked longest ago is forgotten', () => {
  const memory = new CurrentKeys();
  for (let number = 0; number < 10_001; number++) {
    if (number === 10_000) memory.note(app(0), decision({ keyEpoch: 1 }));
    memory.note(app(number), decision({ keyEpoch: 1 }));
  }
  expect(memory.all()).toHaveLength(10_000);
  expect(memory.of(app(0))).toEqual({ keyEpoch: 1 });
  expect(memory.of(app(1))).toEqual({});
});

test('other processes are told of changes alone, and take them over', () => {
  const [here, there] = [new CurrentKeys(), new CurrentKeys()];
  const told: KeyNews[] = [];
  here.tell = (news) => told.push(news);
  for (const keyEpoch of [1, 1, 2]) here.note(app(1), decision({ keyEpoch }));
  here.note(app(1), decision());
  here.note(app(1), decision());
  expect(told.map(([, said]) => said)).toEqual([{ keyEpoch: 1 }, { keyEpoch: 2 }, null]);
  there.learn(told.slice(0, 2));
  expect(there.of(app(1))).toEqual({ keyEpoch: 2 });
  there.learn(told);
  expect(there.all()).toEqual([]);
});
