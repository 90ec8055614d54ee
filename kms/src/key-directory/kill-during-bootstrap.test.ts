/** The process is killed at every file operation of a bootstrap; the next start finds no keys or all of them. */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { bundleChild, runChild } from '../test/child.ts';
import { keyDirectoryState, recoverKeyDirectory } from './commit.ts';
import { KEY_FILES, ROOT_KEY_FILES } from './key-files.ts';
import { loadKeys } from './load-keys.ts';

const scratch = mkdtempSync(join(tmpdir(), 'kms-kill-'));
let child: string;
const NOW = 1_795_000_000;

beforeAll(async () => {
  child = await bundleChild(new URL('../test/bootstrap-child.ts', import.meta.url), scratch);
});
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

const run = (directory: string, at: number, when: 'before' | 'after') => runChild(child, directory, at, when);

function rootKeys(directory: string): string[] {
  return ROOT_KEY_FILES.filter((name) => existsSync(join(directory, name))).map((name) =>
    readFileSync(join(directory, name)).toString('hex'),
  );
}

describe('kill-during-bootstrap', () => {
  test('at every file operation: either the old state or the finished one, and it stays', async () => {
    const whole = join(scratch, 'whole');
    const operations = Number(run(whole, 0, 'before'));
    expect(operations).toBeGreaterThan(60);
    expect(statSync(whole).mode & 0o777).toBe(0o700);
    let finished = 0;
    for (let at = 1; at <= operations; at++) {
      const directory = join(scratch, `at-${at}`);
      expect(run(directory, at, at % 2 === 0 ? 'before' : 'after')).toBeUndefined();
      const before = rootKeys(directory);
      await recoverKeyDirectory(directory);
      const state = await keyDirectoryState(directory);
      expect(state).not.toBe('damaged');
      if (state === 'keys') {
        finished += 1;
        const after = rootKeys(directory);
        for (const key of before) expect(after).toContain(key);
        const keys = await loadKeys(directory, { now: NOW });
        expect(keys.bootstrapInfo?.k256Pubkey).toEqual(keys.k256Pubkey);
        expect(keys.history.map(({ successor }) => successor)).toEqual([keys.id]);
        for (const { name, mode } of KEY_FILES) {
          expect([name, statSync(join(directory, name)).mode & 0o777]).toEqual([name, mode]);
        }
      } else {
        expect(before).toEqual([]);
      }
      if (existsSync(directory)) expect(readdirSync(directory)).not.toContain('.pending');
      rmSync(directory, { recursive: true, force: true });
    }
    expect(finished).toBeGreaterThan(10);
    expect(finished).toBeLessThan(operations);
  }, 180_000);

  test('a restart after a kill begins again and ends with one set of keys', async () => {
    const directory = join(scratch, 'again');
    for (const at of [8, 25, 40]) run(directory, at, 'after');
    await recoverKeyDirectory(directory);
    if ((await keyDirectoryState(directory)) === 'empty') expect(run(directory, 0, 'before')).not.toBe('');
    const keys = rootKeys(directory);
    expect(keys).toHaveLength(2);
    // A bootstrap over existing keys is refused and changes nothing.
    const second = spawnSync(process.execPath, [child, directory, '0', 'before'], { timeout: 20_000 });
    expect(second.stderr.toString()).toContain('they are never replaced');
    expect(rootKeys(directory)).toEqual(keys);
  });
});
