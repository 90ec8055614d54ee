import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  existsSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { openCollateralFiles } from './node-files.ts';

let root: string;
let warnings: string[];
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'cache-'));
  warnings = [];
  vi.spyOn(process, 'emitWarning').mockImplementation((text) => void warnings.push(String(text)));
});
afterEach(() => {
  vi.restoreAllMocks();
  rmSync(root, { recursive: true, force: true });
});

describe('the cache of collateral', () => {
  it('keeps what was written, in a folder of its own', async () => {
    const directory = join(root, 'a/b');
    const files = openCollateralFiles(directory);
    expect(await files.read('x.json')).toBeUndefined();
    await files.write('x.json', 'content');
    expect(await openCollateralFiles(directory).read('x.json')).toBe('content');
    expect(readdirSync(directory)).toEqual(['x.json']);
    await files.remove('x.json');
    expect(readdirSync(directory)).toEqual([]);
    expect(warnings).toEqual([]);
  });

  const isRoot = process.geteuid?.() === 0;
  const made = (path: string, mode: number, owner = 0) => {
    mkdirSync(path);
    chmodSync(path, mode);
    if (isRoot) chownSync(path, owner, owner);
  };
  it.each([
    ['a folder that others may write to', () => made(join(root, 'cache'), 0o777), true],
    ['a folder of another user', () => made(join(root, 'cache'), 0o755, 65_534), isRoot],
    ['a link to a folder', () => symlinkSync(root, join(root, 'cache')), true],
    ['a file', () => writeFileSync(join(root, 'cache'), ''), true],
    ['a folder that others could replace', () => chmodSync(root, 0o777), true],
  ])('is not %s, which is said once', async (_name, make, applies) => {
    if (!applies) return;
    make();
    const before = readdirSync(root);
    const files = openCollateralFiles(join(root, 'cache'));
    await files.write('x.json', 'content');
    expect(await files.read('x.json')).toBeUndefined();
    await files.remove('x.json');
    expect(readdirSync(root).filter((name) => name !== 'cache')).toEqual(
      before.filter((name) => name !== 'cache'),
    );
    expect(existsSync(join(root, 'cache/x.json'))).toBe(false);
    expect(warnings).toHaveLength(1);
    expect(warnings[0]).toContain('No collateral is cached');
  });

  it.each([
    ['a FIFO', (at: string) => execFileSync('mkfifo', [at])],
    ['a link', (at: string, other: string) => symlinkSync(other, at)],
    ['a hard link', (at: string, other: string) => linkSync(other, at)],
    ['a folder', (at: string) => mkdirSync(at)],
  ])('reads nothing from %s, and waits for nothing', async (_name, make) => {
    const other = join(root, 'other');
    writeFileSync(other, 'foreign');
    mkdirSync(join(root, 'cache'), { mode: 0o700 });
    make(join(root, 'cache/x.json'), other);
    const files = openCollateralFiles(join(root, 'cache'));
    expect(await files.read('x.json')).toBeUndefined();
    await files.write('x.json', 'content');
    expect(readFileSync(other, 'utf8')).toBe('foreign');
  });
});
