import type { Decision, Policy } from '@dstack-cloud/policy';
import { expect, test } from 'vitest';
import {
  allCurrentKeys,
  type CurrentKeys,
  currentKeys,
  learnCurrentKeys,
  noteCurrentKeys,
  tellCurrentKeys,
} from './current-keys.ts';

const policy = (): Policy => ({ authorize: () => Promise.reject(), describe: () => Promise.reject() });
const decision = (said: Partial<Decision> = {}): Decision => ({
  allowed: true,
  reason: '',
  gatewayAppId: '',
  ...said,
});
const app = (number: number): Uint8Array => new Uint8Array(Buffer.alloc(20, String(number).padStart(8, '0')));

test('what was said last counts, for each source alone, until it says nothing', () => {
  const [one, other] = [policy(), policy()];
  noteCurrentKeys(one, app(1), decision({ keyEpoch: 2, minKeyEpoch: 1 }));
  expect(currentKeys(one, app(1))).toEqual({ keyEpoch: 2, minKeyEpoch: 1 });
  expect([currentKeys(one, app(2)), currentKeys(other, app(1))]).toEqual([{}, {}]);
  noteCurrentKeys(one, app(1), decision());
  expect(currentKeys(one, app(1))).toEqual({});
});

test('memory is bounded; who asked longest ago is forgotten', () => {
  const source = policy();
  for (let number = 0; number < 10_001; number++) {
    if (number === 10_000) noteCurrentKeys(source, app(0), decision({ keyEpoch: 1 }));
    noteCurrentKeys(source, app(number), decision({ keyEpoch: 1 }));
  }
  expect(allCurrentKeys(source)).toHaveLength(10_000);
  expect(currentKeys(source, app(0))).toEqual({ keyEpoch: 1 });
  expect(currentKeys(source, app(1))).toEqual({});
});

test('other processes are told of changes alone, and take them over', () => {
  const [here, there] = [policy(), policy()];
  const told: CurrentKeys[] = [];
  tellCurrentKeys(here, (...news) => told.push(...news));
  for (const keyEpoch of [1, 1, 2]) noteCurrentKeys(here, app(1), decision({ keyEpoch }));
  noteCurrentKeys(here, app(1), decision());
  noteCurrentKeys(here, app(1), decision());
  expect(told.map(([, said]) => said)).toEqual([{ keyEpoch: 1 }, { keyEpoch: 2 }, null]);
  learnCurrentKeys(there, told.slice(0, 2));
  expect(currentKeys(there, app(1))).toEqual({ keyEpoch: 2 });
  learnCurrentKeys(there, told);
  expect(allCurrentKeys(there)).toEqual([]);
});
