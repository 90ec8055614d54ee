import { execFileSync } from 'node:child_process';
import { utf8 } from '@dstack-cloud/encoding';
import { describeWithPrograms } from '@dstack-cloud/test/requires';
import { expect, it } from 'vitest';
import { type CpioEntry, writeCpio } from './cpio.ts';

const entries: CpioEntry[] = [
  { path: 'bin', kind: 'directory', mode: 0o755 },
  { path: 'bin/tool', kind: 'file', mode: 0o755, data: utf8('#!') },
  { path: 'bin/other', kind: 'symlink', mode: 0o777, data: utf8('tool') },
  { path: 'init', kind: 'file', mode: 0o700, data: utf8('hello') },
];

it.each(['/absolute', '../up', 'a/../b', '', 'a//b', 'a\0b'])('refuses the member name %j', (path) => {
  expect(() => writeCpio([{ path, kind: 'file', mode: 0o644 }])).toThrow(/cannot be the name/);
});

describeWithPrograms('an archive and cpio', ['cpio'], () => {
  it('agree on names, modes, owners and contents', () => {
    const archive = writeCpio(entries);
    const run = (args: string[]) =>
      execFileSync('cpio', args, { input: archive, encoding: 'utf8', stdio: ['pipe', 'pipe', 'ignore'] });
    const listed = run(['-itv', '--numeric-uid-gid']).trim().split('\n');
    expect(listed.map((line) => line.split(/\s+/)[0])).toEqual([
      'drwxr-xr-x',
      '-rwxr-xr-x',
      'lrwxrwxrwx',
      '-rwx------',
    ]);
    expect(listed[2]).toContain('bin/other -> tool');
    expect(listed.every((line) => /\s0\s+0\s/.test(line))).toBe(true);
    expect(run(['-i', '--to-stdout', '--quiet', 'init'])).toBe('hello');
  });
});
