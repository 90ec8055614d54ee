import type { Decision, Policy } from '@dstack-cloud/policy';
import { expect, test } from 'vitest';
import {
  allPresentKeys,
  learnPresentKeys,
  notePresentKeys,
  type PresentKeys,
  presentKeys,
  tellPresentKeys,
} from './present-keys.ts';

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
  notePresentKeys(one, app(1), decision({ keyEpoch: 2, minKeyEpoch: 1 }));
  expect(presentKeys(one, app(1))).toEqual({ keyEpoch: 2, minKeyEpoch: 1 });
  expect([presentKeys(one, app(2)), presentKeys(other, app(1))]).toEqual([{}, {}]);
  notePresentKeys(one, app(1), decision());
  expect(presentKeys(one, app(1))).toEqual({});
});

test('memory is bounded; who asked longest ago is forgotten', () => {
  const source = policy();
  for (let number = 0; number < 10_001; number++) {
    if (number === 10_000) notePresentKeys(source, app(0), decision({ keyEpoch: 1 }));
    notePresentKeys(source, app(number), decision({ keyEpoch: 1 }));
  }
  expect(allPresentKeys(source)).toHaveLength(10_000);
  expect(presentKeys(source, app(0))).toEqual({ keyEpoch: 1 });
  expect(presentKeys(source, app(1))).toEqual({});
});

test('other processes are told of changes alone, and take them over', () => {
  const [here, there] = [policy(), policy()];
  const told: PresentKeys[] = [];
  tellPresentKeys(here, (...news) => told.push(...news));
  for (const keyEpoch of [1, 1, 2]) notePresentKeys(here, app(1), decision({ keyEpoch }));
  notePresentKeys(here, app(1), decision());
  notePresentKeys(here, app(1), decision());
  expect(told.map(([, said]) => said)).toEqual([{ keyEpoch: 1 }, { keyEpoch: 2 }, null]);
  learnPresentKeys(there, told.slice(0, 2));
  expect(presentKeys(there, app(1))).toEqual({ keyEpoch: 2 });
  learnPresentKeys(there, told);
  expect(allPresentKeys(there)).toEqual([]);
});
