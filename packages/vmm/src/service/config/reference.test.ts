/** docs/reference/vmm-config.md has every key of the schema with its default, and nothing else. */
import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { checkTable, knownKeys } from './schema.ts';

type Table = { [key: string]: unknown };
type Row = { readonly path: readonly string[]; readonly standard: string };

const page = readFileSync(new URL('../../../../../docs/reference/vmm-config.md', import.meta.url), 'utf8');
const rows: readonly Row[] = page.split(/^## /m).flatMap((section) => {
  const heading = section.split('\n')[0] ?? '';
  const table = heading === 'top level' ? [] : /^`\[([\w.]+)\]`$/.exec(heading)?.[1]?.split('.');
  if (table === undefined) return [];
  const lines = section.matchAll(/^\| `(\w+)` \| (?:`(.+?)`|-) \| .*\|$/gm);
  return [...lines].map(([, key, standard = '']) => ({ path: [...table, key!], standard }));
});

/** Every key below a table of the schema that is no table itself. */
function leaves(path: readonly string[]): string[] {
  return knownKeys(path).flatMap((key) => {
    const inner = leaves([...path, key]);
    return inner.length > 0 ? inner : [[...path, key].join('.')];
  });
}

function set(table: Table, [name, ...rest]: readonly string[], value: unknown): void {
  if (rest.length === 0) table[name!] = value;
  else set(enter(table, name!), rest, value);
}

function enter(table: Table, name: string): Table {
  table[name] ??= {};
  return table[name] as Table;
}

function parsed(table: Table): unknown {
  const result = checkTable(table);
  if ('issues' in result) throw new Error(JSON.stringify(result.issues));
  return result.config;
}

test('every key has a line, and there is no other', () => {
  const documented = rows.map(({ path }) => path.join('.'));
  expect(documented.toSorted()).toEqual(leaves([]).toSorted());
  expect(documented.length).toBeGreaterThan(70);
});

test('the documented defaults are the ones in force, and keys without one are not set', () => {
  const given: Table = {};
  for (const { path, standard } of rows) if (standard !== '') set(given, path, JSON.parse(standard));
  expect(parsed(given)).toEqual(parsed({}));
  for (const { path, standard } of rows) {
    const value = path.reduce<unknown>((table, name) => (table as Table)[name], parsed({}));
    expect([path.join('.'), value === undefined]).toEqual([path.join('.'), standard === '']);
  }
});
