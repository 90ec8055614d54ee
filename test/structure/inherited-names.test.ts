/** Objects with names from outside are read by `table`, which loses no name and warns of inherited ones. */
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';

const repository = resolve(dirname(fileURLToPath(import.meta.url)), '../..');

const ALLOWED = [
  'packages/app/src/table.ts',
  // Part of a page for browsers, with a smaller zod; it looks its names up as own ones.
  'packages/verifier/src/bundle.ts',
];

test('z.record leaves __proto__ out: nobody else uses it', () => {
  const folders = ['packages', 'kms/src', 'cli/src', 'scripts/src', 'contracts/src'];
  const users = folders.flatMap((folder) =>
    (readdirSync(join(repository, folder), { recursive: true }) as string[])
      .filter(
        (name) =>
          name.endsWith('.ts') && !/(^|\/)(node_modules|dist)\//.test(name) && !name.endsWith('.d.ts'),
      )
      .map((name) => join(folder, name))
      .filter((path) => readFileSync(join(repository, path), 'utf8').includes('z.record(')),
  );
  expect(users.sort()).toEqual(ALLOWED);
});
