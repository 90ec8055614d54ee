import { existsSync, mkdirSync, mkdtempSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { withBuildLock } from './build-lock.ts';
import { isUpToDate, writeStamp } from './build-stamp.ts';

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'build-'));
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

it('lets one build run at a time', async () => {
  let inside = 0;
  let most = 0;
  const work = async (): Promise<void> => {
    inside += 1;
    most = Math.max(most, inside);
    await sleep(30);
    inside -= 1;
  };
  await Promise.all([1, 2, 3].map(() => withBuildLock(directory, work)));
  expect(most).toBe(1);
  expect(existsSync(join(directory, '.build-lock'))).toBe(false);
});

it('gives the lock back when a build fails', async () => {
  await expect(withBuildLock(directory, () => Promise.reject(new Error('no')))).rejects.toThrow('no');
  await withBuildLock(directory, () => Promise.resolve());
});

it('takes over the lock of a build that was killed', async () => {
  const lock = join(directory, '.build-lock');
  mkdirSync(lock);
  utimesSync(lock, 0, 0);
  expect(await withBuildLock(directory, () => Promise.resolve('built'))).toBe('built');
});

it('builds again when an input, a program or the lockfile changed', async () => {
  const inputs = ['a.ts', 'scripts/src/build/bundle-programs.ts', 'package-lock.json'];
  mkdirSync(join(directory, 'scripts/src/build'), { recursive: true });
  for (const name of [...inputs, 'x.js']) writeFileSync(join(directory, name), 'one');
  await writeStamp(directory, directory, ['x'], ['a.ts']);
  expect(await isUpToDate(directory, directory, ['x'])).toBe(true);
  expect(await isUpToDate(directory, directory, ['x', 'y'])).toBe(false);
  writeFileSync(join(directory, 'package-lock.json'), 'another');
  expect(await isUpToDate(directory, directory, ['x'])).toBe(false);
});
