/** docs/reference/kms-config.md has every key of the schema with its default, every variable, and nothing else. */
import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { knownKeys, parseTable } from './schema.ts';

type Table = { [key: string]: unknown };
type Row = { readonly path: readonly string[]; readonly standard: string };

const read = (path: string): string => readFileSync(new URL(path, import.meta.url), 'utf8');
const page = read('../../../docs/reference/kms-config.md');
const rows: readonly Row[] = page.split(/^## /m).flatMap((section) => {
  const table = /^`\[([\w.]+)\]`\n/.exec(section)?.[1];
  const lines = section.matchAll(/^\| `(\w+)` \| (?:`(.+?)`|-) \| .*\|$/gm);
  return table === undefined
    ? []
    : [...lines].map(([, key, standard = '']) => ({ path: [...table.split('.'), key!], standard }));
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
  const result = parseTable(table);
  if ('issues' in result) throw new Error(JSON.stringify(result.issues));
  return result.config;
}

test('every key has a line, and there is no other', () => {
  const documented = rows.map(({ path }) => path.join('.'));
  expect(documented.toSorted()).toEqual(leaves([]).toSorted());
  expect(documented.length).toBeGreaterThan(90);
});

test('the documented defaults are the ones in force, and keys without one are not set', () => {
  const given: Table = {};
  for (const { path, standard } of rows) {
    if (standard !== '') set(given, path, JSON.parse(standard));
  }
  expect(parsed(given)).toEqual(parsed({}));
  for (const { path, standard } of rows) {
    const value = path.reduce<unknown>((table, name) => (table as Table)[name], parsed({}));
    expect([path.join('.'), value === undefined]).toEqual([path.join('.'), standard === '']);
  }
});

test('every variable that the configuration reads has a line, and there is no other', () => {
  const source = read('check-config.ts');
  const names = [...source.matchAll(/'([A-Z]+(?:_[A-Z]+)+)'\]|const \{ ([A-Z_, ]+) \} = environment/g)];
  const used = names.flatMap(([, one, several]) => one ?? several!.split(', '));
  const environment = page.split(/^## Environment$/m)[1] ?? '';
  const documented = [...environment.matchAll(/^\| `([A-Z_]+)` \|/gm)].map(([, name]) => name);
  expect(documented.toSorted()).toEqual([...new Set(used)].toSorted());
});
