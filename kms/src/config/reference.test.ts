/** docs/reference/kms-config.md has every key of the schema with its default, every variable, and nothing else. */
import { readFileSync } from 'node:fs';
import { knownKeys } from '@dstack-cloud/app';
import { testConfigReference } from '@dstack-cloud/test/config-reference';
import { expect, test } from 'vitest';
import { configSchema, parseTable } from './schema.ts';

const read = (path: string): string => readFileSync(new URL(path, import.meta.url), 'utf8');
const page = read('../../../docs/reference/kms-config.md');

testConfigReference(page, {
  knownKeys: (path) => knownKeys(configSchema, path),
  check: parseTable,
  atLeast: 91,
});

test('every variable that the configuration reads has a line, and there is no other', () => {
  const source = read('check-config.ts');
  const names = [...source.matchAll(/'([A-Z]+(?:_[A-Z]+)+)'\]|const \{ ([A-Z_, ]+) \} = environment/g)];
  const used = names.flatMap(([, one, several]) => one ?? several!.split(', '));
  const environment = page.split(/^## Environment$/m)[1] ?? '';
  const documented = [...environment.matchAll(/^\| `([A-Z_]+)` \|/gm)].map(([, name]) => name);
  expect(documented.toSorted()).toEqual([...new Set(used)].toSorted());
});
