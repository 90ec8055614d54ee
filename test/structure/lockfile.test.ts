/** `npm ci` refuses a lockfile that lacks the binaries of other platforms, also on a machine that needs none. */
import { readFileSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';

type Entry = { optionalDependencies?: Record<string, string> };

const path = resolve(dirname(fileURLToPath(import.meta.url)), '../../package-lock.json');
const { packages } = JSON.parse(readFileSync(path, 'utf8')) as { packages: Record<string, Entry> };

/** As node looks for a package: beside the one that wants it, then further up. */
function isLocked(parent: string, name: string): boolean {
  for (let at = parent; ; at = at.slice(0, Math.max(0, at.lastIndexOf('/node_modules/')))) {
    if (`${at === '' ? '' : `${at}/`}node_modules/${name}` in packages) return true;
    if (at === '') return false;
  }
}

test('the lockfile names every optional package of every platform', () => {
  const missing = Object.entries(packages).flatMap(([parent, { optionalDependencies = {} }]) =>
    Object.keys(optionalDependencies)
      .filter((name) => !isLocked(parent, name))
      .map((name) => `${name} for ${parent}`),
  );
  expect(missing).toEqual([]);
});
