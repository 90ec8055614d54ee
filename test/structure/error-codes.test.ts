/** docs/reference/errors.md lists every error code of every package with a line on each, and no other. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';

const repository = resolve(dirname(fileURLToPath(import.meta.url)), '../..');

const directories = [
  ...readdirSync(join(repository, 'packages')).map((name) => `packages/${name}`),
  'kms',
  'cli',
  'contracts',
];

/** Codes by the name of their error class, from the unions in the sources. */
function codesInSource(): Map<string, string[]> {
  const lists = new Map<string, string[]>();
  for (const directory of directories) {
    const path = join(repository, directory, 'src/errors.ts');
    if (!existsSync(path)) continue;
    const text = readFileSync(path, 'utf8').replace(/\/\*[\s\S]*?\*\//g, '');
    for (const [, name, union] of text.matchAll(/export type (\w+Error)Code =([^;]+);/g)) {
      lists.set(
        name!,
        [...union!.matchAll(/'([^']+)'/g)].map((match) => match[1]!),
      );
    }
  }
  return lists;
}

/** Codes and their lines by the name of the error class, from the page. */
function codesInPage(): Map<string, Map<string, string>> {
  const text = readFileSync(join(repository, 'docs/reference/errors.md'), 'utf8');
  return new Map(
    text
      .split(/^## /m)
      .slice(1)
      .map((section) => [
        /^`[\w-]+`: (\w+)$/m.exec(section)?.[1] ?? section,
        new Map([...section.matchAll(/^\| `([^`]+)` \| (.+) \|$/gm)].map((row) => [row[1]!, row[2]!])),
      ]),
  );
}

describe('error codes', () => {
  const source = codesInSource();
  const page = codesInPage();

  test('every package with an error class has a section, and there is no other', () => {
    expect([...page.keys()].sort()).toEqual([...source.keys()].sort());
    expect(source.size).toBeGreaterThan(14);
  });

  test.each([...source.keys()])('%s: every code has a line, and there is no other', (name) => {
    const lines = page.get(name) ?? new Map<string, string>();
    expect([...lines.keys()].sort()).toEqual([...source.get(name)!].sort());
    for (const line of lines.values()) expect(line.length).toBeGreaterThan(10);
  });
});
