/** A checklist of what a KMS must do: where each item is tested, by its number. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';

const ITEMS: readonly [number: number, item: string, file: string][] = [
  [1, 'GetMeta in all its forms', 'wire.test.ts'],
  [2, 'bytes, null, Empty', 'wire.test.ts'],
  [3, 'unknown method, oversized body, error JSON', 'wire.test.ts'],
  [4, 'vectors of 3.5, 3.6, 4.7, 5.1', 'wire.test.ts'],
  [5, 'a guest of v0.6 and a newer one get identical keys', 'wire.test.ts'],
  [6, 'client certificates', 'wire.test.ts'],
  [7, 'key directories of the original and ours', 'operation.test.ts'],
  [8, 'onboard in both directions', 'operation.test.ts'],
  [9, 'SignCert chains', 'operation.test.ts'],
  [10, 'webhook dialects, fail closed', 'operation.test.ts'],
  [11, 'second bootstrap, crash between writes', 'operation.test.ts'],
  [12, 'health, metrics, version, log', 'operation.test.ts'],
];

test.each(ITEMS)('item %i, %s: %s', (number, _, file) => {
  const source = readFileSync(join(import.meta.dirname, file), 'utf8');
  expect(source).toMatch(new RegExp(`checklist ${number}: `));
  expect(source).not.toMatch(/\.(skip|todo|only)\b/);
});

test('twelve items', () => {
  expect(ITEMS.map(([number]) => number)).toEqual(Array.from({ length: 12 }, (_, index) => index + 1));
});
