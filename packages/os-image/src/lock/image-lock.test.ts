import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';
import { IMAGE_PACKAGES, KERNEL, LEFT_OUT, NODE, SUITE } from '../recipe/recipe.ts';
import { formatLock, parseLock, readLock } from './image-lock.ts';

const file = join(fileURLToPath(new URL('../..', import.meta.url)), 'lock.json');

it('the lock of this repository has every package of the recipe, and none that it leaves out', async () => {
  const lock = await readLock(file);
  const names = lock.image.map(({ name }) => name);
  expect(IMAGE_PACKAGES.filter((name) => !names.includes(name))).toEqual([]);
  expect(names.filter((name) => LEFT_OUT.includes(name))).toEqual([]);
  expect([lock.suite, lock.kernel, lock.node.version]).toEqual([SUITE, KERNEL, NODE.version]);
});

it('writes what it reads', async () => {
  const lock = await readLock(file);
  expect(parseLock(formatLock(lock))).toEqual(lock);
});

it.each([
  ['a hash of another length', (text: string) => text.replace(/"sha256":"[0-9a-f]{2}/, '"sha256":"')],
  ['an unknown member', (text: string) => text.replace('"schema": 1', '"schema": 1, "extra": 2')],
  ['another schema', (text: string) => text.replace('"schema": 1', '"schema": 2')],
  ['no JSON', () => 'x'],
])('refuses %s', async (_, change) => {
  const text = change(formatLock(await readLock(file)));
  expect(() => parseLock(text)).toThrow(/lock\.json/);
});

it('refuses a package that is named twice', async () => {
  const lock = await readLock(file);
  expect(() => parseLock(formatLock({ ...lock, tools: [...lock.tools, lock.tools[0]!] }))).toThrow(/twice/);
});
