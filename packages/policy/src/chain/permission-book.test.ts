import { expect, test, vi } from 'vitest';
import { facts } from '../test/facts.ts';
import { encodeDecisionCall } from './contracts/contract-calls.ts';
import { PermissionBook } from './permission-book.ts';
import type { Verdict, VerdictRequest } from './verdict-reader.ts';

const allowed: Verdict = { allowed: true, reason: '', gatewayAppId: 'g' };
const requestOf = (advisoryIds: string[]): VerdictRequest => {
  const info = facts({ advisoryIds });
  return { kind: 'app', info, call: encodeDecisionCall('app', info) };
};

test('a permission is kept, also one with the advisories of a platform that is years behind', async () => {
  const book = new PermissionBook();
  const request = requestOf(Array.from({ length: 20 }, (_, index) => `INTEL-SA-0${index + 1_000}`));
  const ask = vi.fn(async () => allowed);
  for (let time = 0; time < 3; time++) expect(await book.get('b', request, ask)).toBe(allowed);
  expect(ask).toHaveBeenCalledTimes(1);
  book.touch(request);
  expect(book.recent('b', 60_000)).toEqual([request]);
});

test('a question that somebody made long is answered, and not kept', async () => {
  const book = new PermissionBook();
  const request = requestOf(Array.from({ length: 128 }, () => 'x'.repeat(256)));
  const ask = vi.fn(async () => allowed);
  for (let time = 0; time < 3; time++) expect(await book.get('b', request, ask)).toBe(allowed);
  expect(ask).toHaveBeenCalledTimes(3);
  book.touch(request);
  expect(book.known('b', request.call)).toBeUndefined();
  expect(book.recent('b', 60_000)).toEqual([]);
});
