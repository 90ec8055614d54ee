/** A page of docs/reference has every key of a configuration with its default, and nothing else. */
import { expect, test } from 'vitest';

type Table = { [key: string]: unknown };
type Row = { readonly path: readonly string[]; readonly standard: string };

interface Configuration {
  /** The keys of the table at a path. */
  readonly knownKeys: (path: readonly string[]) => readonly string[];
  /** Checks a table and fills in the defaults. */
  readonly check: (table: Table) => { readonly config: unknown } | { readonly issues: unknown };
  /** A page of which fewer keys were read is not the page. */
  readonly atLeast: number;
}

/** Tests for the text of a page: each table has a section of its name, each key a line. */
export function testConfigReference(page: string, { knownKeys, check, atLeast }: Configuration): void {
  const rows = rowsOf(page);

  /** Every key below a table of the schema that is no table itself. */
  const leaves = (path: readonly string[]): string[] =>
    knownKeys(path).flatMap((key) => {
      const inner = leaves([...path, key]);
      return inner.length > 0 ? inner : [[...path, key].join('.')];
    });

  const parsed = (table: Table): unknown => {
    const result = check(table);
    if ('issues' in result) throw new Error(JSON.stringify(result.issues));
    return result.config;
  };

  test('every key has a line, and there is no other', () => {
    const documented = rows.map(({ path }) => path.join('.'));
    expect(documented.toSorted()).toEqual(leaves([]).toSorted());
    expect(documented.length).toBeGreaterThanOrEqual(atLeast);
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

  test('a value that no key takes is refused with what the key takes', () => {
    for (const { path } of rows) {
      for (const wrong of WRONG) {
        const given: Table = {};
        set(given, path, wrong);
        const result = check(given);
        const messages = 'issues' in result ? messagesOf(result.issues) : [];
        const bare = messages.filter((message) => SAYS_NOTHING.test(String(message)));
        expect([path.join('.'), wrong, bare]).toEqual([path.join('.'), wrong, []]);
      }
    }
  });
}

/** What zod says when nobody said what a key takes. */
const SAYS_NOTHING = /^Invalid (input|key in record|element in \w+)$/;
const WRONG: readonly unknown[] = ['soon', true, -1, 1.5, [], [{}], { x: 1 }, { x: { y: 'soon' } }];

function messagesOf(issues: unknown): unknown[] {
  return (issues as readonly { readonly message: unknown }[]).map(({ message }) => message);
}

function rowsOf(page: string): Row[] {
  return page.split(/^## /m).flatMap((section) => {
    const heading = section.split('\n')[0] ?? '';
    const table = heading === 'top level' ? [] : /^`\[([\w.]+)\]`$/.exec(heading)?.[1]?.split('.');
    if (table === undefined) return [];
    const lines = section.matchAll(/^\| `(\w+)` \| (?:`(.+?)`|-) \| .*\|$/gm);
    return [...lines].map(([, key, standard = '']) => ({ path: [...table, key!], standard }));
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
