import { expect, test } from 'vitest';
import { journalAlerts } from './journal-alerts.ts';

test.each([
  [0, []],
  [499, []],
  [500, ['warning journal-filling/50']],
  [899, ['warning journal-filling/75']],
  [900, ['critical journal-filling/90']],
  [1_000, ['critical journal-filling/90']],
])('a journal with %i of 1000 bytes', (bytes, expected) => {
  expect(journalAlerts(bytes, 1_000, 1).map(({ severity, id }) => `${severity} ${id}`)).toEqual(expected);
});
