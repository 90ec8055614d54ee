import { execFileSync } from 'node:child_process';
import { describeWithPrograms } from '@dstack-cloud/test/requires';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Sandbox } from '../testing.ts';

let box: Sandbox;
beforeEach(() => {
  box = new Sandbox();
});
afterEach(() => box.remove());

/** What bash offers for a line whose last word is being typed. */
async function offered(...words: string[]): Promise<string[]> {
  const { code, stdout } = await box.run('completion', 'bash');
  expect(code).toBe(0);
  const line = words.map((word) => `'${word}'`).join(' ');
  const script = `${stdout}
COMP_WORDS=(dstack-cloud ${line}); COMP_CWORD=${words.length}
_dstack_cloud; printf '%s\\n' "\${COMPREPLY[@]}"`;
  return execFileSync('bash', ['-c', script], { encoding: 'utf8' }).split('\n').filter(Boolean);
}

describeWithPrograms('completion of bash', ['bash'], () => {
  it('offers commands, those of a group, and the options of a command', async () => {
    expect(await offered('dep')).toEqual(['deploy']);
    expect(await offered('kms', 'audit', '')).toEqual(['verify']);
    expect(await offered('deploy', '--dry')).toEqual(['--dry-run']);
    expect(await offered('-C', 'app', 'env', 's')).toEqual(['set']);
  });

  it('offers global options everywhere, and no command where a value stands', async () => {
    for (const words of [['--jso'], ['gov', 'status', '--jso']])
      expect(await offered(...words)).toEqual(['--json']);
    expect(await offered('new', 'dep')).toEqual([]);
  });
});

describe('completion', () => {
  it.each(['bash', 'zsh', 'fish'])('has every command for %s', async (shell) => {
    const { stdout } = await box.run('completion', shell);
    for (const name of ['deploy', 'audit', 'completion']) expect(stdout).toContain(name);
  });

  it('is for shells that it knows', async () => {
    expect(await box.run('completion', 'tcsh')).toMatchObject({ code: 2, stdout: '' });
  });
});

describe('help of a command', () => {
  it('is that of --help, also below a group', async () => {
    for (const words of [['deploy'], ['kms', 'audit', 'verify'], []])
      expect(await box.run('help', ...words)).toEqual(await box.run(...words, '--help'));
  });

  it('of an unknown one is an error that names the nearest', async () => {
    expect(await box.run('help', 'deplyo')).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('deploy'),
    });
  });
});
