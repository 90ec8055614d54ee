import { expect, test, vi } from 'vitest';
import { facts } from '../test/facts.ts';
import { encodeDecisionCall } from './contracts/contract-calls.ts';
import { DecisionCache } from './decision-cache.ts';
import type { ContractDecision, DecisionRequest } from './decision-reader.ts';

const allowed: ContractDecision = { allowed: true, reason: '', gatewayAppId: 'g' };
const requestOf = (advisoryIds: string[]): DecisionRequest => {
  const info = facts({ advisoryIds });
  return { kind: 'app', info, call: encodeDecisionCall('app', info) };
};

test('a permission is kept, also one with the advisories of a platform that is years behind', async () => {
  const cache = new DecisionCache();
  const request = requestOf(Array.from({ length: 20 }, (_, index) => `INTEL-SA-0${index + 1_000}`));
  const ask = vi.fn(async () => allowed);
  for (let time = 0; time < 3; time++) expect(await cache.get('b', request, ask)).toBe(allowed);
  expect(ask).toHaveBeenCalledTimes(1);
  cache.touch(request);
  expect(cache.recent('b', 60_000)).toEqual([request]);
});

test('a question that somebody made long is answered, and not kept', async () => {
  const cache = new DecisionCache();
  const request = requestOf(Array.from({ length: 128 }, () => 'x'.repeat(256)));
  const ask = vi.fn(async () => allowed);
  for (let time = 0; time < 3; time++) expect(await cache.get('b', request, ask)).toBe(allowed);
  expect(ask).toHaveBeenCalledTimes(3);
  cache.touch(request);
  expect(cache.known('b', request.call)).toBeUndefined();
  expect(cache.recent('b', 60_000)).toEqual([]);
});
