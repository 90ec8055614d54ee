/** docs/reference/watch-config.md has every key of the schema with its default and its bounds, and nothing else. */
import { readFileSync } from 'node:fs';
import { knownKeys } from '@dstack-cloud/app';
import { testConfigReference } from '@dstack-cloud/test/config-reference';
import { expect, test } from 'vitest';
import { checkTable, configSchema } from './schema.ts';

const page = readFileSync(new URL('../../../../docs/reference/watch-config.md', import.meta.url), 'utf8');

testConfigReference(page, {
  knownKeys: (path) => knownKeys(configSchema, path),
  check: checkTable,
  atLeast: 30,
});

/** Each line of the page: its table ('' for the top level), key, default and meaning. */
const lines = page.split(/^## /m).flatMap((section) => {
  const table = /^`\[(\w+)\]`/.exec(section)?.[1] ?? '';
  const rows = section.matchAll(/^\| `(\w+)` \| (.+?) \| (.*) \|$/gm);
  return [...rows].map(([, key = '', standard = '', meaning = '']) => ({ table, key, standard, meaning }));
});
const takes = (table: string, key: string, value: unknown): boolean =>
  'config' in checkTable(table === '' ? { [key]: value } : { [table]: { [key]: value } });

test('the documented bounds are the ones in force, and each number and list with bounds has them', () => {
  for (const { table, key, standard, meaning } of lines) {
    const name = `${table}.${key}`;
    const [, least, most] = / \(([\d.]+) to (\d+)\)$/.exec(meaning) ?? [];
    const longest = / \(at most (\d+)\)$/.exec(meaning)?.[1];
    if (least !== undefined && most !== undefined) {
      const [low, high] = [Number(least), Number(most)];
      const given = [low, high, low - 1, high + 1].map((value) => takes(table, key, value));
      expect([name, ...given]).toEqual([name, true, true, false, false]);
    } else if (longest !== undefined) {
      const items = ['http://127.0.0.1:1', `0x${'1'.repeat(40)}`, '1'.repeat(64)];
      const item = items.find((one) => takes(table, key, [one]));
      const given = [0, 1].map((more) => takes(table, key, Array(Number(longest) + more).fill(item)));
      expect([name, ...given]).toEqual([name, true, false]);
    } else {
      const isBounded = /^`[\d[]/.test(standard) && key !== 'from_block';
      expect([name, isBounded]).toEqual([name, false]);
    }
  }
});
