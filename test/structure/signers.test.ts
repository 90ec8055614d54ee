/** Every test that docs/signers.md names exists, and every table of it names some in each row. */
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';

const page = resolve(dirname(fileURLToPath(import.meta.url)), '../../docs/signers.md');
const rows = readFileSync(page, 'utf8')
  .split('\n')
  .filter((line) => line.startsWith('| ') && !/^\| (---|What is signed|Answer) /.test(line))
  .map((line) => {
    const cells = line.split(' | ');
    return { name: cells[0]!.slice(2), tests: cells.at(-1)! };
  });

describe('docs/signers.md', () => {
  test('has its tables', () => {
    expect(rows.length).toBeGreaterThan(30);
  });

  test.each(rows)('$name: its tests exist', ({ tests }) => {
    const links = [...tests.matchAll(/\[[^\]]+\]\(([^)#]+)[^)]*\)([^[]*)/g)];
    expect(links.length).toBeGreaterThan(0);
    for (const [, link, titles] of links) {
      const path = join(dirname(page), link!);
      expect(existsSync(path), link).toBe(true);
      const text = readFileSync(path, 'utf8');
      for (const [, title] of titles!.matchAll(/"([^"]+)"/g)) expect(text).toContain(title);
    }
  });
});
