import { execFileSync, spawn } from 'node:child_process';
import {
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { open, rename, unlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { temporaryName } from '@dstack-cloud/files';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type AtomicFileSystem, readFileBounded, writeFileAtomic } from './index.ts';

let dir = '';
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'dstack-app-'));
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

describe('writeFileAtomic', () => {
  it('writes mode 0600 whatever the umask, and replaces a longer file whole', async () => {
    const path = join(dir, 'f');
    writeFileSync(path, 'a much longer old content', { mode: 0o644 });
    const before = process.umask(0);
    try {
      await writeFileAtomic(path, 'new');
    } finally {
      process.umask(before);
    }
    expect(readFileSync(path, 'utf8')).toBe('new');
    expect(statSync(path).mode & 0o777).toBe(0o600);
    await writeFileAtomic(path, Uint8Array.of(1, 2), { mode: 0o644 });
    expect(statSync(path).mode & 0o777).toBe(0o644);
    expect(readdirSync(dir)).toEqual(['f']);
  });

  it('removes what a killed writer left beside it, and nothing of one that lives', async () => {
    const living = temporaryName('f');
    const killed = living.replace(/^\.f\.[0-9]+-/, '.f.4194304-');
    for (const name of [living, killed]) writeFileSync(join(dir, name), 'secret');
    await writeFileAtomic(join(dir, 'other'), 'new');
    expect(readdirSync(dir).sort()).toEqual([living, 'other'].sort());
  });

  it('replaces a symbolic link instead of writing through it', async () => {
    const target = join(dir, 'target');
    writeFileSync(target, 'old');
    symlinkSync(target, join(dir, 'link'));
    await writeFileAtomic(join(dir, 'link'), 'new');
    expect(readFileSync(target, 'utf8')).toBe('old');
  });

  type Step = 'open' | 'chmod' | 'writeFile' | 'sync' | 'rename';
  const failing = (step: Step): AtomicFileSystem => {
    const fail = () =>
      Promise.reject(Object.assign(new Error('no space left on device'), { code: 'ENOSPC' }));
    return {
      open: (async (path: string, flags: string, mode?: number) => {
        if (step === 'open') return fail();
        const file = await open(path, flags, mode);
        if (step !== 'rename') Object.defineProperty(file, step, { value: fail });
        return file;
      }) as typeof open,
      rename: step === 'rename' ? fail : rename,
      unlink,
    };
  };
  it.each<Step>(['open', 'chmod', 'writeFile', 'sync', 'rename'])(
    'keeps the old file when %s fails',
    async (step) => {
      const path = join(dir, 'f');
      writeFileSync(path, 'old');
      await expect(writeFileAtomic(path, 'new', { fs: failing(step) })).rejects.toMatchObject({
        code: 'file-write-failed',
        message: expect.stringContaining('no space left'),
      });
      expect(readFileSync(path, 'utf8')).toBe('old');
      expect(readdirSync(dir)).toEqual(['f']);
    },
  );

  it('syncs the file before the rename and the directory after it', async () => {
    const calls: string[] = [];
    const fs: AtomicFileSystem = {
      open: (async (path: string, flags: string, mode?: number) => {
        const file = await open(path, flags, mode);
        const sync = file.sync.bind(file);
        Object.defineProperty(file, 'sync', {
          value: () => {
            calls.push(path === dir ? 'sync directory' : 'sync file');
            return sync();
          },
        });
        return file;
      }) as typeof open,
      rename: (from, to) => {
        calls.push('rename');
        return rename(from, to);
      },
      unlink,
    };
    await writeFileAtomic(join(dir, 'f'), 'x', { fs });
    expect(calls).toEqual(['sync file', 'rename', 'sync directory']);
  });

  it('a kill at any moment leaves one whole version', async () => {
    const path = join(dir, 'f');
    const versions = ['a', 'b'].map((letter) => letter.repeat(300_000));
    writeFileSync(path, versions[0]!);
    const module = JSON.stringify(fileURLToPath(new URL('./write-file-atomic.ts', import.meta.url)));
    const script = `import { writeFileAtomic } from ${module};
      process.stdout.write('ready');
      for (let i = 1; ; i++) await writeFileAtomic(${JSON.stringify(path)}, 'ab'[i % 2].repeat(300000));`;
    const arguments_ = ['--import', 'tsx', '-C', '@dstack/source', '--input-type=module', '-e', script];
    for (const delay of [0, 3, 11]) {
      const child = spawn(process.execPath, arguments_, { stdio: ['ignore', 'pipe', 'inherit'] });
      await new Promise((resolve) => child.stdout.once('data', resolve));
      await new Promise((resolve) => setTimeout(resolve, delay));
      const closed = new Promise((resolve) => child.once('close', resolve));
      child.kill('SIGKILL');
      await closed;
      expect(versions).toContain(readFileSync(path, 'utf8'));
    }
  }, 30_000);
});

describe('readFileBounded', () => {
  it('reads up to the limit and no further', async () => {
    writeFileSync(join(dir, 'f'), '12345');
    await expect(readFileBounded(join(dir, 'f'), 5)).resolves.toHaveLength(5);
    await expect(readFileBounded(join(dir, 'f'), 4, { label: 'Source file' })).rejects.toMatchObject({
      code: 'file-too-large',
      message: `Source file ${join(dir, 'f')} is too large, max size is 4 bytes`,
    });
  });
  it('tells a missing file, a directory, a link and a FIFO apart from content', async () => {
    symlinkSync('/etc/hostname', join(dir, 'link'));
    execFileSync('mkfifo', [join(dir, 'fifo')]);
    const code = (name: string) =>
      readFileBounded(join(dir, name), 10, { noFollow: true }).catch((error) => error.code);
    expect(await code('absent')).toBe('file-missing');
    expect(await code('.')).toBe('file-not-regular');
    expect(await code('link')).toBe('file-not-regular');
    expect(await code('fifo')).toBe('file-not-regular');
    expect(existsSync(join(dir, 'fifo'))).toBe(true);
  });
});
