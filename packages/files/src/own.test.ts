import { execFileSync, spawnSync } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  closeSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { removeAbandoned, temporaryName } from './abandoned.ts';
import { isThere } from './is-there.ts';
import { makeOwnDirectory, requireOwnDirectory } from './own-directory.ts';
import { openOwnFile } from './own-file.ts';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'own-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const notOurs = expect.objectContaining({ code: 'not-ours' });
const isRoot = process.geteuid?.() === 0;

describe('a folder of ours', () => {
  it('is one that this user made for itself', () => {
    makeOwnDirectory(join(folder, 'a/b'));
    makeOwnDirectory(join(folder, 'a/b'));
    expect(() => requireOwnDirectory(join(folder, 'a/b'), 0o077)).not.toThrow();
  });

  it.each([
    ['a link', (path: string) => symlinkSync(folder, path)],
    ['a file', (path: string) => writeFileSync(path, '')],
    [
      'one that everybody may write to',
      (path: string) => {
        mkdirSync(path);
        chmodSync(path, 0o777);
      },
    ],
  ])('is not %s', (_name, make) => {
    const path = join(folder, 'x');
    make(path);
    expect(() => requireOwnDirectory(path)).toThrow(notOurs);
  });

  it.runIf(isRoot)('is not one of another user', () => {
    chownSync(folder, 65_534, 65_534);
    expect(() => requireOwnDirectory(folder)).toThrow(notOurs);
  });
});

describe('a file of ours', () => {
  it('is opened to read and to append', () => {
    const path = join(folder, 'log');
    closeSync(openOwnFile(path, 'append'));
    closeSync(openOwnFile(path, 'read'));
    expect(() => openOwnFile(join(folder, 'none'), 'read')).toThrow(
      expect.objectContaining({ code: 'ENOENT' }),
    );
  });

  it.each([
    ['a symbolic link', (path: string, other: string) => symlinkSync(other, path)],
    ['a hard link', (path: string, other: string) => linkSync(other, path)],
    ['a FIFO', (path: string) => execFileSync('mkfifo', [path])],
    ['a folder', (path: string) => mkdirSync(path)],
  ])('is not %s', (_name, make) => {
    const other = join(folder, 'other');
    writeFileSync(other, 'x');
    make(join(folder, 'x'), other);
    for (const access of ['read', 'append'] as const) {
      expect(() => openOwnFile(join(folder, 'x'), access)).toThrow();
    }
  });

  it.runIf(isRoot)('is not one of another user', () => {
    const path = join(folder, 'x');
    writeFileSync(path, '');
    chownSync(path, 65_534, 65_534);
    expect(() => openOwnFile(path, 'read')).toThrow(notOurs);
  });
});

describe('temporary files', () => {
  it('of killed writers are removed, those of living ones and all other files are not', () => {
    const source = new URL('abandoned.ts', import.meta.url).href;
    const script = `import { temporaryName } from ${JSON.stringify(source)}; process.stdout.write(temporaryName('a'));`;
    const { stdout } = spawnSync(
      process.execPath,
      ['--import', import.meta.resolve('tsx'), '--input-type=module', '-e', script],
      { encoding: 'utf8' },
    );
    expect(stdout).toMatch(/^\.a\..*\.tmp$/);
    const kept = [temporaryName('a'), '.a.tmp', 'state.json', '.a.0123456789abcdef.tmp'];
    for (const name of [stdout, ...kept]) writeFileSync(join(folder, name), 'secret');
    const target = join(folder, 'state.json');
    const link = stdout.replace(/[0-9a-f]{16}\.tmp$/, `${'0'.repeat(16)}.tmp`);
    symlinkSync(target, join(folder, link));
    removeAbandoned(folder);
    expect(readdirSync(folder).sort()).toEqual([...kept, link].sort());
    removeAbandoned(join(folder, 'none'));
  });
});

describe('isThere', () => {
  it('takes a link that leads nowhere for there, and what cannot be looked at for an error', () => {
    const link = join(folder, 'link');
    symlinkSync(join(folder, 'none'), link);
    writeFileSync(join(folder, 'file'), '');
    expect([link, join(folder, 'file'), join(folder, 'none'), join(folder, 'file/x')].map(isThere)).toEqual([
      true,
      true,
      false,
      false,
    ]);
    symlinkSync(join(folder, 'loop'), join(folder, 'loop'));
    expect(() => isThere(join(folder, 'loop/x'))).toThrow(expect.objectContaining({ code: 'ELOOP' }));
  });
});
