import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { bundlePrograms } from './bundle-programs.ts';

let repository: string;
beforeEach(() => {
  repository = mkdtempSync(join(tmpdir(), 'bundle-programs-'));
  mkdirSync(join(repository, 'scripts/src/build'), { recursive: true });
  for (const name of ['package-lock.json', 'scripts/src/build/bundle-programs.ts'])
    writeFileSync(join(repository, name), '');
  for (const name of ['one', 'two'])
    writeFileSync(join(repository, `${name}.ts`), `import('./lazy-${name}.ts');`);
  for (const name of ['one', 'two'])
    writeFileSync(join(repository, `lazy-${name}.ts`), `export const name: string = '${name}';`);
});
afterEach(() => rmSync(repository, { recursive: true }));

async function bundle(names: readonly string[]): Promise<string[]> {
  const outDirectory = join(repository, 'out');
  const sources = Object.fromEntries(names.map((name) => [name, `${name}.ts`]));
  await bundlePrograms({ repository, outDirectory, force: false, keepOldChunks: false, sources });
  return (readdirSync(outDirectory, { recursive: true }) as string[])
    .map((name) => name.replace(/-[A-Z0-9]{8}\.js$/, '.js'))
    .filter((name) => !name.startsWith('.'))
    .sort();
}

it('a folder that had more programs ends up as one that never had them', async () => {
  expect(await bundle(['one', 'two'])).toEqual([
    ...['chunks', 'chunks/lazy-one.js', 'chunks/lazy-two.js', 'one', 'one.js', 'two', 'two.js'],
  ]);
  expect(await bundle(['one'])).toEqual(['chunks', 'chunks/lazy-one.js', 'one', 'one.js']);
});

it('what else belongs in the folder is made again when it was not finished', async () => {
  const options = { repository, outDirectory: join(repository, 'out'), force: false, keepOldChunks: false };
  const build = (finish: () => Promise<void>) =>
    bundlePrograms({ ...options, sources: { one: 'one.ts' }, finish });
  await expect(build(() => Promise.reject(new Error('ended')))).rejects.toThrow('ended');
  expect((await build(async () => undefined)).fresh).toBe(false);
  expect((await build(() => Promise.reject(new Error('not asked')))).fresh).toBe(true);
});
